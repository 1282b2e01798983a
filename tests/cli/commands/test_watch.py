"""`registry watch`: what it shows, at which width, and how it leaves the terminal."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from support.artifacts import failed, prepared
from support.command import Command, Run
from support.terminal import PATIENCE, terminal

from registry import ArtifactId, Claim, CleanupConfig, Registry
from registry.cli.commands.watch import Watcher
from registry.cli.report.frame import Frame
from registry.cli.report.glance import Glance

KIB = 1024


@pytest.fixture
def busy(registry: Registry) -> Iterator[Registry]:
    """A cache in which something was evicted, something failed, and something is being prepared."""
    prepared(registry, "old.wasm", b"x" * 3 * KIB)
    registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    prepared(registry, "hot.wasm", b"x" * KIB)
    failed(registry, "broken.wasm")
    claim = registry.claim(ArtifactId.of(b"slow"), label="slow \x1b[31m[bold]module.wasm")
    assert isinstance(claim, Claim)
    yield registry
    claim.release()


def drawn(glance: Glance, width: int, *, colours: bool = False) -> list[str]:
    """What a glance looks like, at a width."""
    system = "256" if colours else None
    console = Console(
        file=io.StringIO(),
        width=width,
        highlight=False,
        force_terminal=colours,
        color_system=system,
    )
    with console.capture() as captured:
        console.print(Frame(glance, Path("cache")))
    return captured.get().splitlines()


def shown(registry: Registry, width: int) -> list[str]:
    """One frame, at a width."""
    return drawn(Watcher(registry).look(), width)


def test_it_is_shown_once_where_nobody_is_at_a_terminal(command: Command, busy: Registry) -> None:
    answer = command("watch")
    assert (answer.code, answer.err) == (0, "")
    assert f"{command.cache}" in answer.out
    assert "1.0 KiB of 10.0 GiB, 0%" in answer.out
    assert "1 prepared, 1 preparing, 1 failed" in answer.out
    assert f"{os.getpid()}" in answer.out
    assert r"slow \x1b[31m[bold]module.wasm" in answer.out
    assert "old.wasm" in answer.out.partition("last evictions")[2]
    assert all(line == line.rstrip() for line in answer.out.splitlines())
    assert "\x1b" not in answer.out


def test_an_empty_cache_is_shown_too(command: Command) -> None:
    Registry(command.cache).close()
    answer = command("watch", "--once")
    assert answer.code == 0
    assert "hosts: 0" in answer.out
    assert "no evictions yet" in answer.out


def test_programs_get_one_document(run: Run, busy: Registry) -> None:
    document = run("watch", "--json").document
    assert document["stats"]["prepared_count"] == 1
    assert [it["label"] for it in document["evicted"]] == ["old.wasm"]
    assert document["preparing"][0]["holder"]["pid"] == os.getpid()


@pytest.mark.parametrize("width", [20, 30, 44, 71, 72, 100, 200])
def test_nothing_is_wider_than_the_terminal(busy: Registry, width: int) -> None:
    lines = shown(busy, width)
    assert max(map(len, lines)) <= width
    assert any("evictions" in line for line in lines)
    assert ("BECAUSE OF" in "".join(lines)) == (width >= 72)


@pytest.mark.parametrize("width", [20, 30, 44])
def test_a_narrow_terminal_still_says_what_the_figures_are(busy: Registry, width: int) -> None:
    lines = shown(busy, width)
    for word in ("usage", "artifacts", "in all"):
        assert any(line.startswith(f"{word} ") for line in lines), lines


def test_what_began_after_the_glance_did_not_begin_in_the_future(busy: Registry) -> None:
    glance = Watcher(busy).look()
    lines = drawn(replace(glance, at=glance.at - timedelta(seconds=3)), 100)
    assert any(line.startswith("0s ") and "module.wasm" in line for line in lines), lines


def test_it_warns_of_what_is_wrong(registry: Registry) -> None:
    strict = CleanupConfig(cache_limit=KIB)
    with Registry(registry.cache_dir, cleanup=strict) as small:
        prepared(small, "old.wasm", b"x" * KIB)
        small.prune(cache_limit=0, min_stale_time=timedelta(0))
        prepared(small, "old.wasm", b"x" * KIB)
        prepared(small, "new.wasm", b"x" * KIB)
        text = "\n".join(shown(small, 100))
    assert "over the limit by 1.0 KiB" in text
    assert "too small: 1 prepared again" in text


@pytest.mark.parametrize(("limit", "colour"), [(KIB - 1, 31), (2 * KIB, 32)])
def test_what_is_over_its_limit_is_red(registry: Registry, limit: int, colour: int) -> None:
    prepared(registry, "one.wasm", b"x" * KIB)
    registry.configure(cache_limit=limit)
    _, usage, *_ = drawn(Watcher(registry).look(), 100, colours=True)
    assert f"\x1b[{colour}m━" in usage


def test_it_warns_of_a_limit_below_the_working_set(registry: Registry) -> None:
    prepared(registry, "one.wasm", b"x" * KIB)
    registry.configure(cache_limit=KIB - 1)
    assert "too small: the artifacts needed within min_stale_time" in "\n".join(
        shown(registry, 100)
    )


def test_hits_and_misses_are_counted(registry: Registry, other: Registry) -> None:
    watcher = Watcher(registry)
    first = watcher.look()
    assert (first.hits, first.misses) == (None, None)
    made = prepared(other, "one")
    for _ in range(5):
        other.need(made.id)
    other.close()  # tells the rest of what it counted
    second = watcher.look()
    assert second.hits is not None
    assert second.misses is not None
    assert second.hits == pytest.approx(5 * second.misses)
    assert "5 hits, 1 misses, 0 waits" in "\n".join(shown(registry, 100))


def test_the_last_five_evictions_are_shown_the_latest_first(registry: Registry) -> None:
    for number in range(4):
        prepared(registry, f"early {number}")
        registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    watcher = Watcher(registry)
    for number in range(3):
        prepared(registry, f"late {number}")
        registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    labels = [event.label for event in watcher.look().evicted]
    assert labels == ["late 2", "late 1", "late 0", "early 3", "early 2"]


@pytest.fixture
def other(registry: Registry) -> Iterator[Registry]:
    """Another handle on the same cache."""
    with Registry(registry.cache_dir) as opened:
        yield opened


# --- at a terminal ------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_lives_and_leaves_the_terminal_as_it_was(
    command: Command, busy: Registry, signum: signal.Signals
) -> None:
    with terminal(command, 100, "watch", "--interval", "100ms") as screen:
        at = screen.read_until("1 prepared")
        prepared(busy, "later.wasm")
        screen.read_until("2 prepared", at)
        screen.process.send_signal(signum)
        everything = screen.read_to_the_end()
        assert screen.process.wait(PATIENCE) == 128 + signum
    assert everything.count("\x1b[?1049h") == everything.count("\x1b[?1049l") == 1
    assert everything.count("\x1b[?25l") == everything.count("\x1b[?25h")  # the cursor is back
    assert "Traceback" not in everything
    assert len(busy.hosts()) == 1  # it has closed its handle


def test_a_terminal_made_narrow_is_drawn_anew(command: Command, busy: Registry) -> None:
    with terminal(command, 100, "watch", "--interval", "100ms") as screen:
        at = screen.read_until("COMMAND")
        screen.resize(40)
        at = screen.read_until("\x1b[H", screen.read_until("evictions", at))
        # What was drawn for the wide terminal may still come; then nothing wide does any more.
        for _ in range(3):
            end = screen.read_until("evictions", at)
            drawn, at = screen.seen[at:end], end
        assert b"COMMAND" not in drawn


def test_a_terminal_that_cannot_move_its_cursor_is_shown_it_once(
    command: Command, busy: Registry
) -> None:
    with terminal(command, 80, "watch", TERM="dumb") as screen:
        everything = screen.read_to_the_end()
        assert screen.process.wait(PATIENCE) == 0
    assert "1 prepared" in everything
    assert "\x1b" not in everything


def test_once_at_a_terminal_stays_on_the_screen(command: Command, busy: Registry) -> None:
    with terminal(command, 80, "watch", "--once") as screen:
        everything = screen.read_to_the_end()
        assert screen.process.wait(PATIENCE) == 0
    assert "\x1b[?1049h" not in everything
    assert "hot.wasm" not in everything  # it is prepared, and no news
    assert Path(command.cache).name in everything
