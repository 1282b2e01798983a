"""Failures are kept so that they are not repeated, but neither too many, too long, nor too old."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import connected, rows

from registry import Artifact, ArtifactId, AsyncRegistry, Registry, State

KIB = 1024
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def ids(count: int) -> list[ArtifactId]:
    return [ArtifactId.of(b"bad code %d" % number) for number in range(count)]


def fail(registry: Registry, artifact: ArtifactId, size: int = 100) -> None:
    claimed(registry, artifact).fail("e" * size)


def remembered(registry: Registry) -> list[ArtifactId]:
    """Those that failed, the oldest first."""
    return [artifact.id for artifact in registry.artifacts(state=State.FAILED)][::-1]


def kept(cache: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """What the database says that it keeps, and what it does keep."""
    with connected(cache) as connection:
        said = connection.execute("SELECT failed_count, failed_bytes FROM failure_usage").fetchone()
    errors = [row["error"] for row in rows(cache) if row["state"] == "failed"]
    return tuple(said), (len(errors), sum(len(error.encode()) for error in errors))


def test_beyond_the_count_the_oldest_is_forgotten(registry: Registry, cache: Path) -> None:
    registry.configure(failed_max_count=3)
    for artifact in ids(5):
        fail(registry, artifact)
    assert remembered(registry) == ids(5)[2:]
    assert registry.stats().totals["forgotten"] == 2
    assert [event.event for event in registry.history(ids(1)[0])][-1] == "forgotten"
    assert kept(cache) == ((3, 300), (3, 300))


def test_beyond_the_bytes_the_oldest_is_forgotten_and_bytes_are_no_characters(
    registry: Registry, cache: Path
) -> None:
    registry.configure(failed_max_bytes=40)
    for artifact in ids(5):
        claimed(registry, artifact).fail("é" * 10)  # 20 bytes
    assert remembered(registry) == ids(5)[3:]
    assert registry.stats().failed_bytes == 40
    assert kept(cache) == ((2, 40), (2, 40))


def test_what_failed_a_month_ago_is_forgotten(
    clock: FrozenDateTimeFactory, registry: Registry
) -> None:
    clock.move_to(START)
    fail(registry, ids(1)[0])
    clock.move_to(START + 15 * DAY)
    fail(registry, ids(2)[1])
    clock.move_to(START + 29 * DAY)
    registry.maintain()
    assert remembered(registry) == ids(2)
    clock.move_to(START + 31 * DAY)
    registry.maintain()
    assert remembered(registry) == ids(2)[1:]


def test_the_one_that_failed_just_now_is_never_forgotten(registry: Registry) -> None:
    registry.configure(failed_max_count=0, failed_max_bytes=0, failed_max_age=timedelta(0))
    for artifact in ids(2):
        fail(registry, artifact)
        assert remembered(registry) == [artifact]
    registry.prune()
    assert remembered(registry) == []


def test_one_that_is_claimed_again_is_not_forgotten(registry: Registry) -> None:
    again, *others = ids(3)
    failed(registry, again)
    registry.retry(again)
    claim = claimed(registry, again)
    registry.configure(failed_max_count=0)
    for artifact in others:
        fail(registry, artifact)
    claim.release()
    assert again in remembered(registry)


def test_a_retried_code_that_was_forgotten_is_tried_anew(registry: Registry) -> None:
    registry.configure(failed_max_count=1)
    first, second = ids(2)
    fail(registry, first)
    fail(registry, second)
    assert registry.get_or_prepare(first, lambda: b"good").state is State.PREPARED


def test_prune_forgets_and_a_dry_run_does_not(registry: Registry) -> None:
    for artifact in ids(100):
        fail(registry, artifact)
    registry.configure(failed_max_count=10)
    assert registry.prune(dry_run=True) == []
    assert len(remembered(registry)) == 100
    assert registry.prune() == []
    assert remembered(registry) == ids(100)[90:]


def test_failures_written_before_the_clock_was_set_back_go_first(
    clock: FrozenDateTimeFactory, registry: Registry
) -> None:
    registry.configure(failed_max_count=40)
    clock.move_to(START + 300 * DAY)
    for artifact in ids(40):
        fail(registry, artifact)
    clock.move_to(START)
    new = [ArtifactId.of(b"new %d" % number) for number in range(40)]
    for artifact in new:
        fail(registry, artifact)
    assert remembered(registry) == new
    clock.move_to(START + 31 * DAY)
    registry.maintain()
    assert remembered(registry) == []


def test_those_that_stay_in_the_future_do_not_hide_those_that_are_too_old(
    clock: FrozenDateTimeFactory, registry: Registry
) -> None:
    clock.move_to(START)
    for artifact in ids(2):
        fail(registry, artifact)
    clock.move_to(START + 300 * DAY)
    registry.configure(failed_max_age=3650 * DAY)
    for number in range(40):
        fail(registry, ArtifactId.of(b"ahead %d" % number))
    registry.configure(failed_max_age=30 * DAY)
    clock.move_to(START + 31 * DAY)
    registry.maintain()
    assert set(remembered(registry)).isdisjoint(ids(2))
    assert len(remembered(registry)) == 40


def test_the_async_twin_forgets_too(cache: Path) -> None:
    async def fail_five() -> int:
        async with AsyncRegistry(cache) as registry:
            await registry.configure(failed_max_count=3)
            for artifact in ids(5):
                claim = await registry.claim(artifact)
                assert not isinstance(claim, Artifact)
                await claim.fail("e" * 100)
            return (await registry.stats()).failed_count

    assert asyncio.run(fail_five()) == 3


def test_wrong_counts_are_found_and_corrected(registry: Registry, cache: Path) -> None:
    fail(registry, ids(1)[0])
    with connected(cache) as connection:
        connection.execute("UPDATE failure_usage SET failed_count = 7, failed_bytes = 0")
    assert [problem[:2] for problem in registry.check().problems] == [("usage", "failure_usage")]
    registry.check(repair=True)
    assert registry.check().ok
    assert kept(cache) == ((1, 100), (1, 100))


def test_many_long_errors_leave_a_small_database(registry: Registry, cache: Path) -> None:
    """3,000 of them made a database of 193 MiB under a limit of 1 MiB."""
    for artifact in ids(400):  # 25 MiB of errors
        fail(registry, artifact, 64 * KIB)
    (said, real) = kept(cache)
    assert said == real
    assert real[1] <= 8 * KIB**2
    assert sum(path.stat().st_size for path in cache.glob("registry.db*")) < 20 * KIB**2


def test_publishing_and_removing_leave_the_count_right(registry: Registry, cache: Path) -> None:
    first, second = ids(2)
    fail(registry, first)
    fail(registry, second)
    registry.retry(first)
    prepared(registry, first)
    registry.remove(second)
    assert kept(cache) == ((0, 0), (0, 0))


@pytest.mark.parametrize("name", ["failed_max_count", "failed_max_bytes"])
def test_the_bounds_are_settings(registry: Registry, name: str) -> None:
    registry.configure(**{name: 5})
    assert getattr(registry.settings(), name) == 5
