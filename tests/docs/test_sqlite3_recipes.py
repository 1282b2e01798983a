"""The recipes of docs/sqlite3.md, through the real `sqlite3` shell, while hosts are at work.

The cache has a past of ten days: what was pruned, prepared again, removed, what failed. One host
prepares something just now, another one writes without a pause.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from registry import ArtifactId, CleanupConfig, PrepareError, Registry
from registry.opening.migrate import HEAD

DOCUMENT = Path(__file__).parents[2] / "docs" / "sqlite3.md"
RECIPES = dict(
    re.findall(
        r"^### (\d+)\. .*?\n\n```sql\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
)
KIB = 1024
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Rows = list[dict[str, Any]]

pytestmark = pytest.mark.skipif(
    shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed"
)


def code(name: str, **params: str) -> ArtifactId:
    return ArtifactId.of(name.encode(), params)


def prepare(registry: Registry, label: str, size: int, **params: str) -> None:
    registry.get_or_prepare(code(label, **params), lambda: b"x" * size, label=label)


def fail(registry: Registry, label: str, *, deterministic: bool) -> None:
    def broken() -> bytes:
        raise PrepareError("unknown import", kind="link", deterministic=deterministic)

    with pytest.raises(Exception, match="unknown import"):
        registry.get_or_prepare(code(label), broken, label=label)


@contextmanager
def writing(registry: Registry, id: ArtifactId) -> Iterator[None]:
    """Have a host write without a pause: each of its needs is a write."""
    stop = threading.Event()
    wrote = threading.Event()

    def work() -> None:
        while not stop.is_set():
            assert registry.need(id) is not None
            wrote.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert wrote.wait(30)
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache, with its past behind it and its hosts at work."""
    cache = tmp_path_factory.mktemp("recipes") / "cache"
    with freeze_time(datetime.now(UTC) - 10 * DAY) as clock, Registry(cache) as past:
        prepare(past, "old.wasm", 3 * KIB)
        fail(past, "broken.wasm", deterministic=True)
        fail(past, "flaky.wasm", deterministic=False)
        clock.tick(DAY)
        prepare(past, "parser.wasm", 2 * KIB)
        clock.tick(DAY)
        past.prune(cache_limit=2 * KIB, min_stale_time=timedelta(0))  # takes old.wasm
        past.prune(cache_limit=0, min_stale_time=timedelta(0))  # and parser.wasm
        clock.tick(2 * HOUR)
        prepare(past, "parser.wasm", 2 * KIB)
        prepare(past, "parser.wasm", 4 * KIB, target="gpu")
        past.remove(code("nobody knows it"))
        clock.tick(DAY)
        prepare(past, "huge.wasm", 9 * KIB)
        past.remove(code("huge.wasm"))
    with (
        Registry(cache) as working,
        Registry(cache, cleanup=CleanupConfig(min_stale_time=timedelta(0))) as writer,
    ):
        prepare(working, "hot.wasm", KIB)
        working.configure(cache_limit=5 * KIB, min_stale_time=HOUR)
        claim = working.claim(code("slow.wasm"), label="slow.wasm")
        with writing(writer, code("hot.wasm")):
            yield cache
        claim.release()  # type: ignore[union-attr]


def ask(cache: Path, sql: str) -> Rows:
    """What the shell answers."""
    done = subprocess.run(
        ["sqlite3", "-readonly", "-json", cache / "registry.db", sql],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC"},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer: Rows = json.loads(done.stdout or "[]")
    return answer


def labels(rows: Rows) -> list[str]:
    return [row["label"] for row in rows]


def check_here(rows: Rows) -> None:
    assert labels(rows)[:3] == ["hot.wasm", "parser.wasm", "parser.wasm"]
    assert set(labels(rows)[3:]) == {"broken.wasm", "flaky.wasm", "slow.wasm"}
    assert [row["state"] for row in rows] == ["prepared"] * 3 + ["failed"] * 2 + ["preparing"]
    assert rows[0]["size"] == "1.0 KiB"
    assert [row["age"] for row in rows[1:3]] == ["7d", "7d"]


def check_usage(rows: Rows) -> None:
    (row,) = rows
    assert row == {
        "prepared": 3,
        "held": "7.0 KiB",
        "cache_limit": "5.0 KiB",
        "used": "140.0 %",
        "over_limit": "2.0 KiB",
        "needed_lately": "1.0 KiB",
    }


def check_dearest(rows: Rows) -> None:
    assert sorted(labels(rows)) == ["hot.wasm", "parser.wasm", "parser.wasm"]
    assert all(re.fullmatch(r"\d+m?s", row["prepared_in"]) for row in rows)


def check_preparing(rows: Rows) -> None:
    (row,) = rows
    assert row["label"] == "slow.wasm"
    assert row["prepared_by"].startswith("process ")
    since, deadline = (datetime.fromisoformat(row[name]) for name in ("since", "deadline"))
    assert deadline - since == timedelta(minutes=30)


def check_hosts(rows: Rows) -> None:
    assert [row["prepares"] for row in rows] == ["slow.wasm", None]


def check_failures(rows: Rows) -> None:
    (row,) = rows
    counts = [row[name] for name in ("kind", "artifacts", "ready", "waiting", "given_up")]
    assert (counts, row["error"]) == (["link", 2, 1, 0, 1], "unknown import")


def check_retries(rows: Rows) -> None:
    assert {row["label"]: row["retry"] for row in rows} == {
        "broken.wasm": "only after registry retry",
        "flaky.wasm": "now",
    }


def check_next_prune(rows: Rows) -> None:
    (row,) = rows
    told = [row[name] for name in ("position", "label", "age", "reason", "freed")]
    assert told == [1, "parser.wasm", "7d", "cache_limit", "2.0 KiB"]


def check_story(rows: Rows) -> None:
    assert [row["event"] for row in rows] == [
        *("claimed", "published", "pruned"),
        *("claimed", "published", "claimed", "published"),
    ]
    pruned, again = rows[2], rows[4]
    assert (pruned["reason"], pruned["size"], pruned["unused_for"]) == ("asked", "2.0 KiB", "1d")
    assert again["evicted_for"] == "2h"
    assert all("process " in row["who"] for row in rows)


def check_evicted(rows: Rows) -> None:
    assert labels(rows) == ["parser.wasm", "old.wasm"]
    assert [row["unused_for"] for row in rows] == ["1d", "2d"]
    assert all(row["prepared_in"] and row["who"] for row in rows)


def check_too_early(rows: Rows) -> None:
    (row,) = rows
    assert (row["label"], row["times"], row["hours"]) == ("parser.wasm", 1, 2)
    assert row["seconds"] > 0


def check_counters(rows: Rows) -> None:
    counted = {row["name"]: row["value"] for row in rows if row["value"]}
    counted.pop("hits", None)  # of the host that is at work, which tells them once a second
    assert counted == {
        "misses": 7,
        "published": 6,
        "failed": 2,
        "pruned": 2,
        "pruned_bytes": 5 * KIB,
        "removed": 1,
        "rebuilt": 1,
        "rebuilt_soon": 1,
    }


def check_settings(rows: Rows) -> None:
    held = {row["name"]: (row["value"], row["source"]) for row in rows}
    assert held["cache_limit"] == (5 * KIB, "stored")
    assert held["max_retries"] == (5, "default")
    assert held["hard_limit"] == (None, "default")


def check_identity(rows: Rows) -> None:
    (row,) = rows
    assert (row["revision"], row["oldest_version"]) == (HEAD, "0.1.0")
    assert len(row["uuid"]) == 36


def equal(*expected: Any, of: str) -> Callable[[Rows], None]:
    """Check a column."""

    def check(rows: Rows) -> None:
        assert [row[of] for row in rows] == list(expected)

    return check


CHECKS: dict[int, Callable[[Rows], None]] = {
    1: check_here,
    2: check_usage,
    3: equal("4.0 KiB", "2.0 KiB", "1.0 KiB", None, None, None, of="size"),
    4: check_dearest,
    5: check_preparing,
    6: check_hosts,
    7: check_failures,
    8: check_retries,
    9: check_next_prune,
    10: equal("parser.wasm", "parser.wasm", of="label"),
    11: equal(6 * KIB, of="bytes"),
    12: equal(KIB, 6 * KIB, of="bytes"),
    13: equal(2, of="ways"),
    14: check_story,
    15: check_evicted,
    16: check_too_early,
    17: check_counters,
    18: equal(1, 1, 2, 1, 1, of="prepared"),
    19: check_settings,
    20: check_identity,
}


@pytest.mark.parametrize("number", CHECKS)
def test_a_recipe_answers_what_it_promises(cache: Path, number: int) -> None:
    CHECKS[number](ask(cache, RECIPES[str(number)]))


def test_there_are_twenty_recipes() -> None:
    assert list(map(int, RECIPES)) == list(CHECKS) == list(range(1, 21))


def test_the_shell_cannot_write_so(cache: Path) -> None:
    done = subprocess.run(
        ["sqlite3", "-readonly", cache / "registry.db", "DELETE FROM artifact"],
        capture_output=True,
        text=True,
    )
    assert "readonly database" in done.stderr


def test_a_cache_that_nobody_has_open_can_be_read_too(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with Registry(cache) as registry:
        prepare(registry, "hot.wasm", KIB)
    assert labels(ask(cache, RECIPES["1"])) == ["hot.wasm"]


@pytest.mark.parametrize("kind", ["view", "table"])
def test_the_document_lists_all_that_may_be_read(cache: Path, kind: str) -> None:
    found = ask(cache, f"SELECT name FROM sqlite_schema WHERE type = '{kind}'")
    names = {row["name"] for row in found}
    assert {name for name in names if f"`{name}`" in DOCUMENT.read_text()} == names


def test_the_document_names_the_columns_that_are_there(cache: Path) -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    views = {row["name"] for row in ask(cache, "SELECT name FROM sqlite_schema WHERE type='view'")}
    for name, text in listed:
        if name in views:
            told = set(re.findall(r"`(\w+)`", text.partition(" | ")[2]))
            found = ask(cache, f"SELECT name FROM pragma_table_info('{name}')")
            assert told == {row["name"] for row in found}, name
