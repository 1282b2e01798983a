"""`registry report`: one page, read by a real browser, in light and in dark, wide and narrow."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from freezegun import freeze_time
from support.artifacts import prepared
from support.browser import CHROMIUM, Picture, dom, screenshot
from support.command import Command, Run

from registry import ArtifactId, Claim, Registry
from registry.cli.report import figures
from registry.cli.report.figures import collect

KIB = 1024
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOSTILE = "<script>document.title='mine'</script><img src=x onerror=alert(1)>\x1b[31m\u202e\"'&"
LIGHT, DARK = (0xFB, 0xFB, 0xF9), (0x14, 0x17, 0x1C)

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def make_a_past(cache: Path) -> None:
    """Ten days of use, with what was pruned, what failed and what is called as an attack."""
    with freeze_time(datetime.now(UTC) - 10 * DAY) as clock, Registry(cache) as past:
        prepared(past, "old", b"x" * 3 * KIB)
        clock.tick(5 * DAY)
        prepared(past, "gone", b"x" * 2 * KIB)
        clock.tick(2 * DAY)
        past.prune(cache_limit=3 * KIB, min_stale_time=timedelta(0))  # takes what is old
        prepared(past, "hostile", b"x" * 4 * KIB, label=HOSTILE)
        prepared(past, "x" * 500, b"x" * KIB)
        claim = past.claim(ArtifactId.of(b"broken"), label="broken")
        assert isinstance(claim, Claim)
        claim.fail("no", kind=HOSTILE, retryable=False)
        past.configure(cache_limit=6 * KIB, min_stale_time=DAY)
    with Registry(cache) as now:
        prepared(now, "new", b"x" * 512)


@pytest.fixture
def page(run: Run, command: Command, tmp_path: Path) -> Path:
    """The page about such a cache."""
    make_a_past(command.cache)
    file = tmp_path / "page.html"
    answer = run("report", "--html", file)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"written to {file}\n"
    return file


# --- the figures --------------------------------------------------------------------------------


def test_the_figures_are_right(command: Command) -> None:
    make_a_past(command.cache)
    with Registry(command.cache) as registry:
        told = collect(registry)
    by_age = {each.within: (each.count, each.size) for each in told.by_age if each.count}
    held = 4 * KIB + KIB + 512  # the publish of `new` pruned `gone`, the oldest
    assert by_age == {"an hour": (1, 512), "a week": (2, 5 * KIB)}
    assert told.freed_by_age[0][1] == told.stats.prepared_bytes == held
    assert told.freed_by_age[-1][0] >= 3 * 86400
    sizes = [3 * KIB, 5 * KIB, 2 * KIB, 6 * KIB, 7 * KIB, 7 * KIB + 512, held, held]
    assert [moment.held for moment in told.past] == sizes
    assert (told.past[-1].held, told.past[-1].at) == (held, told.at)
    assert (told.prepared_lately, told.pruned_lately) == (5, 2)
    assert told.next_prune_size == sum(artifact.size or 0 for artifact in told.next_prune)
    assert sum(told.failed_by_kind.values()) == 1


def test_curves_and_lists_are_thinned_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "POINTS", 5)
    for number in range(40):
        prepared(registry, f"{number}", b"x" * KIB)
    told = collect(registry)
    assert len(told.dearest) == figures.LINES
    assert len(told.freed_by_age) <= 10
    assert told.freed_by_age[0][1] == 40 * KIB
    assert [size for _, size in told.freed_by_age] == sorted(
        (size for _, size in told.freed_by_age), reverse=True
    )
    assert len(told.past) <= 10
    assert told.past[-1].held == 40 * KIB


def test_programs_get_the_figures(run: Run, registry: Registry) -> None:
    prepared(registry, "one", b"x" * KIB)
    document = run("report", "--json").document
    assert document["stats"]["prepared_bytes"] == KIB
    assert document["dearest"][0]["label"] == "one"


def test_without_a_file_it_is_a_misuse(run: Run) -> None:
    answer = run("report")
    assert (answer.code, answer.out) == (2, "")
    assert "--html" in answer.err


@pytest.mark.usefixtures("registry")
def test_a_file_that_cannot_be_written_is_a_failure(run: Run, tmp_path: Path) -> None:
    answer = run("report", "--html", tmp_path / "missing" / "page.html")
    assert answer.code == 1
    assert "missing" in answer.err


@pytest.mark.usefixtures("registry")
def test_an_empty_cache_has_a_page_too(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert run("report", "--html", file).code == 0
    assert file.read_text().count('<p class="nothing">nothing</p>') == 6


# --- the page -----------------------------------------------------------------------------------


def test_the_page_asks_no_network_and_runs_nothing(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text
    for way_out in ("http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<img"):
        assert way_out not in text.replace(str(page.parent), "").replace("&lt;img src=", "")


def test_hostile_names_are_words(page: Path) -> None:
    text = page.read_text()
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    words = unescape(re.sub(r"<[^>]*>", "", text))
    assert "<script>document.title='mine'</script><img src=x onerror=alert(1)>" in words


@in_a_browser
def test_a_browser_finds_words_where_an_attack_was_meant(page: Path) -> None:
    seen = dom(page)
    assert seen.count("<section>") == 7
    assert seen.count("<svg") == 2
    assert "<script" not in seen
    assert "<img" not in seen
    assert "<title>registry: " in seen


@in_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 480), (1000, 300)], ids=["narrow", "wide"])
def test_it_is_light_or_dark_and_fits_its_window(
    page: Path, width: int, height: int, dark: bool
) -> None:
    picture = screenshot(page, width, height, dark=dark)
    paper = DARK if dark else LIGHT
    assert picture.width == width
    assert picture.at(2, 2) == paper
    assert ink_at_the_edges(picture, paper) == 0
    held = (0x6A, 0xA9, 0xF0) if dark else (0x2B, 0x6C, 0xB0)
    assert picture.count(held) > 100  # the first bar


def ink_at_the_edges(picture: Picture, paper: tuple[int, int, int]) -> int:
    """How many pixels are not paper in the margins, where what does not fit would stick out."""
    margins = [*range(8), *range(picture.width - 8, picture.width)]
    return sum(picture.at(x, y) != paper for x in margins for y in range(picture.height))


def test_the_page_can_go_to_stdout(run: Run, tmp_path: Path, registry: Registry) -> None:
    answer = run("report", "--html", "-")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("<!")
    assert answer.out.rstrip().endswith("</html>")
    assert not (tmp_path / "-").exists()
    assert run("report", "--html", "-", "--json").code == 2


def test_the_page_has_hits_processes_and_the_limit(
    run: Run, command: Command, registry: Registry
) -> None:
    with Registry(command.cache) as other:  # it writes its counters when it is closed
        for _ in range(4):
            prepared(other, "one")
    with registry.claim(ArtifactId.of(b"two"), label="two & more"):
        out = run("report", "--html", "-").out
    assert "<dt>hit rate</dt><dd>75.0%</dd>" in out
    assert f"process {os.getpid()} on " in out
    assert "prepares two &amp; more" in out
    assert 'class="limit" d=""' not in out  # though the limit is far above what is held
    assert out.count('class="limit"') == 2
