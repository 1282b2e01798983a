"""The views say what the library says, in words for people."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.making import claimed, failed, prepared
from support.tables import DEAD, change, connected, fill, rows

from registry import ArtifactId, Registry, Settings
from registry.artifact import to_micros
from registry.cli.units import near_size
from registry.config import as_stored

KIB = 1024
HOUR = timedelta(hours=1)
HOUR_MICROS = to_micros(HOUR)


def view(cache: Path, sql: str) -> list[dict[str, Any]]:
    with connected(cache) as connection:
        return [dict(found) for found in connection.execute(sql)]


def hours_ago(hours: float) -> int:
    return time.time_ns() // 1000 - int(hours * HOUR_MICROS)


def test_the_defaults_are_those_of_the_program(cache: Path, registry: Registry) -> None:
    defaults = as_stored(asdict(Settings()))
    shown = view(cache, "SELECT * FROM settings")
    assert {row["name"]: row["value"] for row in shown} == defaults
    assert {row["source"] for row in shown} == {"default"}
    assert registry.settings() == Settings()


def test_a_stored_setting_is_the_one_that_holds(cache: Path, registry: Registry) -> None:
    registry.configure(cache_limit=7, hard_limit=9)
    held = {row["name"]: row for row in view(cache, "SELECT * FROM settings")}
    assert (held["cache_limit"]["value"], held["cache_limit"]["source"]) == (7, "stored")
    assert held["hard_limit"]["value"] == 9
    assert held["max_retries"]["source"] == "default"


@pytest.mark.parametrize(
    "size", [0, 1, 1023, 1024, 1536, 1024**2 - 60 * 1024, 5 * 1024**2, 1024**3, 10 * 1024**4]
)
def test_sizes_are_written_as_the_command_writes_them(
    cache: Path, registry: Registry, id: ArtifactId, size: int
) -> None:
    prepared(registry, id)
    change(cache, id, size=size)
    shown = view(cache, "SELECT size, bytes FROM artifacts")
    expected = near_size(size) if size < 1024**4 else "10240.0 GiB"
    assert shown == [{"size": expected, "bytes": size}]


@pytest.mark.parametrize(
    ("hours", "age"),
    [(-5, "0ms"), (0.01, "36s"), (0.5, "30m"), (23.5, "23h"), (24.5, "1d"), (9999, "416d")],
)
def test_ages_are_in_their_largest_unit(
    cache: Path, registry: Registry, hours: float, age: str
) -> None:
    fill(cache, [KIB], first=hours_ago(hours) - 500_000)  # the view's clock ticks in seconds
    ((shown,),) = [row.values() for row in view(cache, "SELECT age FROM artifacts")]
    assert shown in (age, "35s", "36s", "37s") if age == "36s" else shown == age


def test_who_prepares_since_when_is_told(cache: Path, registry: Registry, id: ArtifactId) -> None:
    with claimed(registry, id):
        (row,) = view(cache, "SELECT * FROM artifacts")
        (host,) = registry.hosts()
        assert row["prepared_by"] == f"process {host.pid} on {host.hostname}"
        assert row["id"] == id.short
        assert None not in (row["since"], row["deadline"])
        (shown,) = view(cache, "SELECT * FROM hosts")
        assert (shown["host_id"], shown["preparing"]) == (host.id, 1)
        assert shown["prepares"] == id.code_hash[:12]


def test_a_claim_whose_host_is_gone_is_nobodys(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    change(cache, id, host_id=DEAD)
    (row,) = view(cache, "SELECT * FROM artifacts")
    assert (row["state"], row["prepared_by"]) == ("preparing", None)
    del claim


def test_when_a_failure_may_be_tried_again_is_told(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    failed(registry, id)
    (later,) = view(cache, "SELECT retry FROM artifacts")
    assert later["retry"].startswith("20")  # a time
    assert view(cache, "SELECT waiting, ready, given_up FROM failures") == [
        {"waiting": 1, "ready": 0, "given_up": 0}
    ]
    change(cache, id, retry_at=hours_ago(1))
    assert view(cache, "SELECT retry FROM artifacts") == [{"retry": "now"}]
    registry.remove(id)
    failed(registry, id, retryable=False)
    assert view(cache, "SELECT retry FROM artifacts") == [{"retry": "only after registry retry"}]
    assert view(cache, "SELECT waiting, ready, given_up FROM failures") == [
        {"waiting": 0, "ready": 0, "given_up": 1}
    ]


def test_usage_is_what_stats_say(cache: Path, registry: Registry) -> None:
    fill(cache, [KIB] * 10, first=hours_ago(10.5), step=HOUR_MICROS)
    registry.configure(cache_limit=4 * KIB, min_stale_time=3 * HOUR)
    (row,) = view(cache, "SELECT * FROM cache_usage")
    stats = registry.stats()
    assert (row["prepared"], row["bytes"]) == (stats.prepared_count, stats.prepared_bytes)
    assert row["bytes_limit"] == stats.cache_limit
    assert (row["held"], row["over_limit"], row["used"]) == ("10.0 KiB", "6.0 KiB", "250.0 %")
    assert (row["needed_lately"], row["min_stale_time"]) == ("2.0 KiB", "3h")
    assert (row["preparing"], row["failed"], row["hard_limit"]) == (0, 0, None)


@pytest.mark.parametrize("hard", [None, 0, 3 * KIB, 7 * KIB, 99 * KIB])
@pytest.mark.parametrize("limit", [0, 2 * KIB + 1, 4 * KIB, 6 * KIB, 10 * KIB, 99 * KIB])
@pytest.mark.parametrize("stale", [0, 4, 99])
def test_the_next_prune_is_the_one_that_comes(
    cache: Path, registry: Registry, limit: int, stale: int, hard: int | None
) -> None:
    fill(cache, [KIB, 2 * KIB, KIB, 3 * KIB, KIB, 2 * KIB], first=hours_ago(6.5), step=HOUR_MICROS)
    registry.configure(cache_limit=limit, min_stale_time=stale * HOUR, hard_limit=hard)
    told = view(cache, "SELECT * FROM next_prune ORDER BY position")
    before = [row["code_hash"] for row in rows(cache)]
    registry.check(repair=True)  # which keeps the cache within its limits
    kept = [row["code_hash"] for row in rows(cache)]
    assert [row["code_hash"] for row in told] == before[: len(before) - len(kept)]
    assert [row["position"] for row in told] == list(range(1, len(told) + 1))
    freed = 10 * KIB - registry.stats().prepared_bytes
    assert (told[-1]["bytes_freed"] if told else 0) == freed
    by_whom = view(cache, "SELECT reason FROM events WHERE event = 'pruned'")
    assert [row["reason"] for row in told] == [row["reason"] for row in by_whom]


def test_events_are_told_with_who_did_it(cache: Path, registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    registry.remove(id)
    shown = view(cache, "SELECT * FROM events")
    assert [row["event"] for row in shown] == ["claimed", "published", "removed"]
    (host,) = registry.hosts()
    who = f"process {host.pid} on {host.hostname}: {host.command}"
    assert {row["who"] for row in shown} == {who}
    assert {row["id"] for row in shown} == {id.short}
    assert shown[-1]["size"] == "1.0 KiB"


def test_views_are_read_where_the_schema_is_not_trusted(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    with connected(cache) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        views = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
        assert len(views) == 9
        for (name,) in views:
            connection.execute(f"SELECT * FROM {name}").fetchall()


def test_what_is_not_over_the_limit_costs_the_next_prune_nothing(
    cache: Path, registry: Registry
) -> None:
    """The walk of all artifacts begins only where there is something to prune."""
    fill(cache, [KIB] * 1000)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with connected(cache) as connection:
        connection.set_progress_handler(count, 1)
        assert connection.execute("SELECT * FROM next_prune").fetchall() == []
        assert steps < 1000
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("DELETE FROM next_prune")
