"""The clock was ahead for a while (a machine that has not asked NTP yet), then it was set right.

What was written in between lies in the future. Nothing is blocked or kept by that for longer
than it would be by a right clock; what lies up to a minute ahead counts as now.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import change, connected, fill, row

from registry import (
    Artifact,
    ArtifactId,
    AsyncRegistry,
    Claim,
    CleanupConfig,
    PreparationFailed,
    Registry,
    State,
)
from registry.artifact import from_micros
from registry.clock_slack import CLOCK_SLACK, CLOCK_SLACK_MICROS, is_ahead

RIGHT = datetime(2026, 1, 1, 12, tzinfo=UTC)
AHEAD = [timedelta(days=30), timedelta(days=3650), timedelta(minutes=17)]
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
SCRIPT = """
import sys
from registry import *
i = lambda n: ArtifactId.of(n.encode())
with Registry(sys.argv[1]) as r:
    for n in range(3):
        r.get_or_prepare(i(f"old{n}"), lambda: b"x" * 900)
    r.claim(i("flaky")).fail("try again")
"""


def ids(count: int, name: str = "code") -> list[ArtifactId]:
    return [ArtifactId.of(f"{name} {number}".encode()) for number in range(count)]


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.fixture(params=AHEAD, ids=str)
def ahead(request: pytest.FixtureRequest, clock: FrozenDateTimeFactory) -> timedelta:
    """The clock is wrong by so much, until `set_right`."""
    by: timedelta = request.param
    clock.move_to(RIGHT + by)
    return by


def set_right(clock: FrozenDateTimeFactory, after: timedelta = timedelta(0)) -> None:
    clock.move_to(RIGHT + after)


def test_the_rule_is_one_minute_and_the_same_everywhere() -> None:
    assert timedelta(microseconds=CLOCK_SLACK_MICROS) == CLOCK_SLACK == timedelta(minutes=1)
    assert not is_ahead(100 + CLOCK_SLACK_MICROS, 100)
    assert is_ahead(101 + CLOCK_SLACK_MICROS, 100)


# --- failures -----------------------------------------------------------------------------------


def test_what_failed_then_may_be_tried_at_once(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId, cache: Path, ahead: timedelta
) -> None:
    failed(registry, id)
    set_right(clock)
    made = registry.get_or_prepare(id, lambda: b"good")
    assert made.state is State.PREPARED
    assert made.last_time_needed == RIGHT


def test_the_async_twin_tries_it_too(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    async def fail_then_prepare() -> None:
        async with AsyncRegistry(cache) as registry:
            claim = await registry.claim(id)
            assert not isinstance(claim, Artifact)
            await claim.fail("try again")
            set_right(clock)
            assert (await registry.get_or_prepare(id, lambda: b"good")).state is State.PREPARED

    asyncio.run(fail_then_prepare())


def test_a_deterministic_failure_stays_one(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId, ahead: timedelta
) -> None:
    failed(registry, id, retryable=False)
    set_right(clock)
    with pytest.raises(PreparationFailed):
        registry.get_or_prepare(id, lambda: b"never")


def test_one_that_was_let_be_tried_by_hand_then_may_be_tried_now(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    clock.move_to(RIGHT)
    failed(registry, id, retryable=False)
    clock.move_to(RIGHT + timedelta(days=30))
    assert registry.retry(id)
    set_right(clock)
    assert isinstance(registry.claim(id), Claim)


def test_a_clock_a_minute_ahead_is_nothing_to_speak_of(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    clock.move_to(RIGHT + CLOCK_SLACK)
    failed(registry, id)
    set_right(clock)
    assert isinstance(registry.claim(id), Artifact)  # failed, and not yet to be retried
    set_right(clock, timedelta(minutes=16))
    assert isinstance(registry.claim(id), Claim)


# --- pruning ------------------------------------------------------------------------------------


def test_what_was_needed_then_is_pruned_first_and_the_rest_by_the_old_rule(
    clock: FrozenDateTimeFactory, cache: Path, ahead: timedelta
) -> None:
    with Registry(cache, cleanup=CleanupConfig(10**9, HOUR)) as registry:
        old = [prepared(registry, each, 1000).id for each in ids(3, "old")]
        set_right(clock)
        new = [prepared(registry, each, 1000).id for each in ids(3, "new")]
        told = [artifact.id for artifact in registry.prune(cache_limit=2000, dry_run=True)]
        gone = registry.prune(cache_limit=2000)
        assert [artifact.id for artifact in gone] == told == old
        assert all(registry.get(each) for each in new)  # recent: they stay, though over the limit
        set_right(clock, 2 * HOUR)
        assert [artifact.id for artifact in registry.prune(cache_limit=2000)] == new[:1]


def test_publishing_makes_room_among_them(
    clock: FrozenDateTimeFactory, cache: Path, ahead: timedelta
) -> None:
    with Registry(cache, cleanup=CleanupConfig(2500, HOUR)) as registry:
        for each in ids(2, "old"):
            prepared(registry, each, 1000)
        set_right(clock)
        for each in ids(2, "new"):
            prepared(registry, each, 1000)
        kept = {artifact.id for artifact in registry.artifacts()}
        assert kept == {*ids(2, "new")}


def test_the_view_of_the_next_prune_says_so_too(cache: Path) -> None:
    now = micros(datetime.now(UTC))
    month = 30 * 86400 * 1_000_000
    with Registry(cache) as registry:
        fill(cache, [1000] * 3, first=now + month, step=1)
        stale, recent, slack = ids(3, "other")
        for other, at in ((stale, now - month), (recent, now), (slack, now + 30_000_000)):
            prepared(registry, other, 1000)
            change(cache, other, last_time_needed=at)
        registry.configure(cache_limit=1, min_stale_time=HOUR)
        with connected(cache) as connection:
            told = connection.execute("SELECT code_hash FROM next_prune ORDER BY position")
            told_hashes = [code for (code,) in told]
            (lately,) = connection.execute("SELECT bytes_needed_lately FROM cache_usage").fetchone()
        gone = [artifact.id.code_hash for artifact in registry.prune()]
        assert gone == told_hashes == [*(each.code_hash for each in FILLED), stale.code_hash]
        assert lately == 2000
        assert registry.get(recent)
        assert registry.get(slack)


FILLED = [ArtifactId.of(b"filled %d" % number) for number in range(3)]


def test_more_of_them_than_a_batch_all_go(cache: Path) -> None:
    now = micros(datetime.now(UTC))
    with Registry(cache) as registry:
        made = fill(cache, [10] * 600, first=now + 10**12, step=1)
        recent = prepared(registry, ArtifactId.of(b"recent"), 10).id
        gone = registry.prune(cache_limit=1000, min_stale_time=HOUR)
        assert [artifact.id for artifact in gone] == made[: 600 - 99]
        assert registry.get(recent)
        assert registry.check().ok


def test_a_need_brings_its_time_back_hot_or_cold(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    with Registry(cache) as hot, Registry(cache) as other:
        prepared(hot, id)
        for registry in (hot, other):
            assert registry.need(id)
        set_right(clock, SECOND)
        for registry in (hot, other):
            needed = registry.need(id)
            assert needed is not None
            assert needed.last_time_needed == RIGHT + SECOND
        assert needed_in_row(cache, id) == RIGHT + SECOND
        assert not hot.prune(cache_limit=0)


def test_the_settings_are_read_again_although_they_were_read_in_the_future(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    with Registry(cache) as hot, Registry(cache) as other:
        prepared(hot, id)
        assert hot.need(id)
        set_right(clock)
        assert other.need(id)  # leaves the mark of a last use on the file
        other.configure(min_stale_time=timedelta(0))  # from now on each need writes
        for seconds in (2, 3, 4):
            set_right(clock, seconds * SECOND)
            assert hot.need(id)
        assert needed_in_row(cache, id) == RIGHT + 4 * SECOND


def test_a_use_that_could_not_be_written_then_is_written_as_of_now(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    with Registry(cache) as registry:
        prepared(registry, id)
        clock.tick(10)
        with connected(cache) as other:
            other.execute("BEGIN IMMEDIATE")
            assert registry.need(id)
            other.execute("ROLLBACK")
        set_right(clock)
    assert needed_in_row(cache, id) == RIGHT


def needed_in_row(cache: Path, id: ArtifactId) -> datetime:
    found = row(cache, id)
    assert found is not None
    return from_micros(found["last_time_needed"])


# --- claims, maintenance, the journal -----------------------------------------------------------


def test_a_claim_made_then_by_a_host_that_hangs_is_taken_over_in_its_own_time(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    with Registry(cache) as hung, Registry(cache) as other:
        claim = claimed(hung, id)  # for half an hour
        set_right(clock)
        assert isinstance(other.claim(id), Artifact)  # its holder lives: it has its time
        set_right(clock, timedelta(minutes=29))
        assert isinstance(other.claim(id), Artifact)
        set_right(clock, timedelta(minutes=31))
        assert isinstance(other.claim(id), Claim)
        del claim


def test_its_holder_publishes_if_it_only_took_its_time(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    with Registry(cache) as slow, Registry(cache) as other:
        claim = claimed(slow, id)
        set_right(clock)
        assert isinstance(other.claim(id), Artifact)
        assert claim.publish(b"in time").state is State.PREPARED


def test_one_that_was_extended_since_keeps_its_deadline(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    with Registry(cache) as slow, Registry(cache) as other:
        claim = claimed(slow, id)
        set_right(clock)
        claim.extend(2 * HOUR)
        assert isinstance(other.claim(id), Artifact)
        set_right(clock, timedelta(minutes=119))
        assert isinstance(other.claim(id), Artifact)
        set_right(clock, timedelta(minutes=121))
        assert isinstance(other.claim(id), Claim)
        del claim


def test_one_made_before_and_extended_then_holds_no_longer_than_intended(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, ahead: timedelta
) -> None:
    set_right(clock)
    with Registry(cache) as hung, Registry(cache) as other:
        claim = claimed(hung, id)
        clock.move_to(RIGHT + ahead)
        claim.extend(HOUR)
        claim.extend(HOUR)
        set_right(clock)
        assert isinstance(other.claim(id), Artifact)
        set_right(clock, timedelta(minutes=59))
        assert isinstance(other.claim(id), Artifact)
        set_right(clock, timedelta(minutes=61))
        assert isinstance(other.claim(id), Claim)
        del claim


def test_one_that_is_extended_again_and_again_keeps_the_time_when_it_was_made(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    made = row(cache, id)
    for _ in range(3):
        claim.extend(24 * HOUR)
    now = row(cache, id)
    assert made is not None
    assert now is not None
    assert now["claimed_at"] == made["claimed_at"]
    claim.release()


def test_maintenance_done_then_is_due(
    clock: FrozenDateTimeFactory, registry: Registry, ahead: timedelta
) -> None:
    registry.check(repair=True)
    assert not registry.maintain()
    set_right(clock)
    assert registry.maintain()
    assert not registry.maintain()


def test_what_was_pruned_and_rebuilt_then_is_no_alarm_now(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId, ahead: timedelta
) -> None:
    prepared(registry, id)
    registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    prepared(registry, id)
    assert registry.stats().rebuilt_lately.count == 1
    set_right(clock)
    assert registry.stats().rebuilt_lately.count == 0
    registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    prepared(registry, id)
    assert registry.stats().rebuilt_lately.count == 1
    assert all(
        event.evicted_for is None or event.evicted_for >= timedelta(0)
        for event in registry.history(id)
    )


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_processes_whose_clock_was_a_month_ahead_harm_nobody(cache: Path) -> None:
    """The same between real processes, as `faketime` shows them the clock."""
    script = ["faketime", "-f", "+30d", sys.executable, "-c", SCRIPT, cache]
    subprocess.run(script, check=True, timeout=60)
    with Registry(cache, cleanup=CleanupConfig(2000, HOUR)) as registry:
        flaky = registry.get_or_prepare(ArtifactId.of(b"flaky"), lambda: b"x" * 900)
        assert flaky.state is State.PREPARED
        new = [prepared(registry, each, 900).id for each in ids(2, "new")]
        assert {artifact.id for artifact in registry.artifacts()} == {flaky.id, *new}
        assert registry.check().ok
