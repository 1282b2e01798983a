"""The journal: what happened to an artifact, by whom and why, and how often it happens."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import change, connected, die, fill

from registry import AmbiguousPrefix, ArtifactId, AsyncRegistry, HistoryEvent, Registry
from registry.effects import Effect, Run
from registry.errors import DiskFull, UnknownArtifact
from registry.schema.journal import FAILED
from registry.sql.transitions import TRANSITIONS, Event
from registry.verbs import history, text
from registry.verbs.driver import drive

KIB = 1024
HOUR = timedelta(hours=1)
NOW = timedelta(0)
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def told(registry: Registry, id: ArtifactId) -> list[tuple[str, str | None]]:
    return [(event.event, event.reason) for event in registry.history(id)]


def last(registry: Registry, id: ArtifactId) -> HistoryEvent:
    return registry.history(id)[-1]


def totals(registry: Registry) -> dict[str, int]:
    """What was counted at all."""
    return {name: count for name, count in registry.stats().totals.items() if count}


# --- claims, as the triggers tell of them -------------------------------------------------------


def test_a_preparation_is_told_from_claim_to_publication(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    claim = registry.claim(id, label="module.wasm")
    clock.tick(HOUR)
    artifact = claim.publish(b"x" * KIB)  # type: ignore[union-attr]
    begun, ended = registry.history(id)
    (host,) = registry.hosts()
    assert (begun.event, begun.at, begun.size) == ("claimed", START, None)
    assert (ended.event, ended.at, ended.size) == ("published", START + HOUR, KIB)
    assert ended.prepare_seconds == artifact.prepare_seconds
    for event in (begun, ended):
        assert (event.id, event.label) == (id, "module.wasm")
        assert (event.host_id, event.pid, event.command) == (host.id, os.getpid(), host.command)
    assert totals(registry) == {"published": 1}


def test_a_failure_is_told_with_its_kind_and_the_try_after_it(
    registry: Registry, id: ArtifactId
) -> None:
    claimed(registry, id).fail("e" * 1000, kind="link")
    assert last(registry, id).error == "e" * 200
    registry.retry(id)
    claimed(registry, id)
    assert told(registry, id) == [("claimed", None), ("failed", "link"), ("claimed", "link")]


def test_a_claim_that_is_given_back_is_no_failure(registry: Registry, id: ArtifactId) -> None:
    claimed(registry, id).release()
    assert told(registry, id) == [("claimed", None), ("released", None)]
    failed(registry, id)
    registry.retry(id)
    claimed(registry, id).release()  # failed again, as it was
    assert [event for event, _ in told(registry, id)][2:] == [
        *("claimed", "failed", "claimed", "released")
    ]
    assert totals(registry) == {"failed": 1, "released": 2}


def test_a_claim_of_the_dead_is_taken_over_or_reaped(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    lost = claimed(registry, id)
    die(cache, id)
    taken = claimed(registry, id)
    assert told(registry, id)[-1] == ("taken over", "host_died")
    die(cache, id)
    registry.wait(id)
    assert told(registry, id)[-1] == ("reaped", "host_died")
    assert totals(registry) == {"reaped": 1, "coalesced": 1}
    del lost, taken


@pytest.mark.parametrize("kind", ["host_died", "deadline"])
def test_a_failure_of_ones_own_is_no_reaping_whatever_its_kind(
    registry: Registry, id: ArtifactId, kind: str
) -> None:
    claimed(registry, id).fail("the compiler gave up", kind=kind)
    assert told(registry, id)[-1] == ("failed", kind)
    assert totals(registry) == {"failed": 1}


@pytest.mark.parametrize("word", [text.HOST_DIED, text.DEADLINE])
def test_the_trigger_knows_reaping_by_the_words_that_the_verbs_write(word: text.Failure) -> None:
    assert f"('{word.kind}', '{word.message}')" in FAILED


def test_what_only_touches_a_row_is_no_event(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    registry.configure(min_stale_time=NOW)  # so that each need is written
    claim = claimed(registry, id)
    claim.extend(HOUR)
    claim.publish(b"artifact")
    before = registry.history(id)
    clock.tick(HOUR)
    assert registry.need(id) is not None
    registry.open_file(id).close()
    assert registry.history(id) == before


def test_a_need_runs_no_trigger(cache: Path, registry: Registry) -> None:
    """The most frequent statement pays nothing for the journal."""
    with connected(cache) as connection:
        for event, runs in ((Event.NEED, False), (Event.PUBLISH, True)):
            sql = TRANSITIONS[event].sql
            names = re.findall(r":(\w+)", sql)
            steps = connection.execute(f"EXPLAIN {sql}", dict.fromkeys(names))
            assert any(step["opcode"] == "Program" for step in steps) == runs


# --- ends, as the verbs tell of them ------------------------------------------------------------


def test_what_was_pruned_is_told_with_its_size_its_age_and_what_it_cost(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    artifact = prepared(registry, id)
    clock.tick(HOUR)
    registry.prune(cache_limit=0, min_stale_time=NOW)
    event = last(registry, id)
    assert (event.event, event.reason, event.at) == ("pruned", "asked", START + HOUR)
    assert (event.size, event.last_time_needed) == (KIB, START)
    assert event.prepare_seconds == artifact.prepare_seconds
    assert event.pid == os.getpid()
    assert totals(registry) == {"published": 1, "pruned": 1, "pruned_bytes": KIB}


def test_which_limit_pruning_obeyed_is_told(registry: Registry, cache: Path) -> None:
    named = fill(cache, [KIB] * 4)
    registry.configure(cache_limit=3 * KIB)
    registry.prune()
    assert told(registry, named[0]) == [("pruned", "cache_limit")]
    registry.configure(cache_limit=2 * KIB)
    registry.check(repair=True)
    assert told(registry, named[1]) == [("pruned", "cache_limit")]
    registry.configure(cache_limit=9 * KIB, hard_limit=KIB)
    registry.check(repair=True)
    assert told(registry, named[2]) == [("pruned", "hard_limit")]
    assert told(registry, named[3]) == []


def test_a_dry_run_is_no_event(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    registry.prune(cache_limit=0, min_stale_time=NOW, dry_run=True)
    assert told(registry, id)[-1] == ("published", None)


def test_every_one_of_many_batches_is_told(registry: Registry, cache: Path) -> None:
    named = fill(cache, [3] * 600)
    registry.prune(cache_limit=0)
    assert {last(registry, named[n]).event for n in (0, 300, 599)} == {"pruned"}
    assert totals(registry) == {"pruned": 600, "pruned_bytes": 1800}


def test_what_was_removed_is_told_whatever_its_state_was(
    registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.remove(id)
    failed(registry, id)
    registry.remove(id)
    assert not registry.remove(id)
    events = [event for event in registry.history(id) if event.event == "removed"]
    assert [event.size for event in events] == [KIB, None]
    assert totals(registry) == {"published": 1, "failed": 1, "removed": 2}


@pytest.mark.parametrize("fault", ["missing", "damaged", "hostile"])
def test_what_was_wrong_with_a_file_is_told(
    cache: Path, registry: Registry, other: Registry, id: ArtifactId, fault: str
) -> None:
    artifact = prepared(registry, id)
    assert artifact.path is not None
    artifact.path.chmod(0o600)
    match fault:
        case "missing":
            artifact.path.unlink()
        case "damaged":
            artifact.path.write_bytes(b"y" * KIB)
        case "hostile":
            change(cache, id, path="../../etc/passwd")
    assert other.need(id) is None
    assert told(registry, id)[-1] == (fault, None)
    assert totals(registry) == {"published": 1, fault: 1}


def test_a_journal_that_cannot_be_written_stops_nothing(
    registry: Registry, id: ArtifactId, caplog: pytest.LogCaptureFixture
) -> None:
    def full(effect: Effect[object]) -> object:
        assert isinstance(effect, Run)
        raise DiskFull("no room")

    caplog.set_level(logging.INFO, "registry")
    gone = history.Ended(id.code_hash, id.prep_hash, None)
    drive(history.record(registry._handle, [gone], "pruned", 0), full)
    assert "history will not tell that 1 artifacts were pruned: no room" in caplog.text
    assert registry.history(id) == []


# --- what comes again ---------------------------------------------------------------------------


def test_what_was_pruned_and_prepared_again_soon_is_counted_with_its_cost(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.prune(cache_limit=0, min_stale_time=NOW)
    clock.tick(HOUR)
    artifact = prepared(registry, id)
    assert last(registry, id).evicted_for == HOUR
    assert totals(registry)["rebuilt"] == totals(registry)["rebuilt_soon"] == 1
    lately = registry.stats().rebuilt_lately
    assert (lately.count, lately.seconds) == (1, artifact.prepare_seconds)
    clock.tick(timedelta(hours=25))
    assert registry.stats().rebuilt_lately.count == 0  # no longer lately
    assert totals(registry)["rebuilt_soon"] == 1


def test_what_comes_again_after_more_than_a_day_was_not_evicted_too_early(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.prune(cache_limit=0, min_stale_time=NOW)
    clock.tick(timedelta(hours=24))
    prepared(registry, id)
    assert totals(registry)["rebuilt"] == 1
    assert "rebuilt_soon" not in totals(registry)
    assert registry.stats().rebuilt_lately.count == 0


def test_only_pruning_evicts(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    registry.prune(cache_limit=0, min_stale_time=NOW)
    prepared(registry, id)
    registry.remove(id)
    prepared(registry, id)
    assert last(registry, id).evicted_for is None
    assert totals(registry)["rebuilt"] == 1


# --- how long it is remembered ------------------------------------------------------------------


def test_the_last_ten_thousand_events_are_kept(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10100) "
    write = "INSERT INTO history (at, event, code_hash, prep_hash) "
    with connected(cache) as connection:
        connection.execute(f"{write} {numbers} SELECT i, 'claimed', 'a', 'b' FROM n")
        ((count, newest),) = connection.execute("SELECT count(*), max(at) FROM history")
    assert 10_000 <= count < 10_064
    assert newest == 10_100
    assert registry.history(id) == []


def test_who_it_was_is_known_after_they_have_gone(
    cache: Path, registry: Registry, id: ArtifactId
) -> None:
    with Registry(cache) as gone:
        prepared(gone, id)
    (host,) = registry.hosts()
    event = last(registry, id)
    assert event.host_id != host.id
    assert (event.pid, event.hostname) == (host.pid, host.hostname)


def test_the_last_thousand_hosts_are_known(cache: Path, registry: Registry) -> None:
    numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1005) "
    with connected(cache) as connection:
        connection.execute(
            f"INSERT INTO host {numbers} SELECT 'host ' || i, i, 'here', 'test', i, '0' FROM n"
        )
        connection.execute("DELETE FROM host WHERE hostname = 'here'")
        ((count, newest),) = connection.execute("SELECT count(*), max(pid) FROM host_history")
    assert (count, newest) == (1000, 1005)


# --- asking -------------------------------------------------------------------------------------


def test_nothing_is_known_of_what_nobody_asked_for(registry: Registry, id: ArtifactId) -> None:
    assert registry.history(id) == []
    with pytest.raises(TypeError, match="ArtifactId"):
        registry.history("62631e")  # type: ignore[arg-type]


def test_both_twins_tell_the_same(cache: Path, registry: Registry, id: ArtifactId) -> None:
    async def ask() -> list[HistoryEvent]:
        async with AsyncRegistry(cache) as twin:
            assert await twin.find(id.code_hash[:8], past=True) == id
            return await twin.history(id)

    prepared(registry, id)
    registry.remove(id)
    events = asyncio.run(ask())
    assert events == registry.history(id)
    assert len(events) == 3


def test_what_is_gone_is_found_in_the_past_only(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    registry.remove(id)
    assert registry.find(id.code_hash[:8], past=True) == id
    assert registry.find(id.short, past=True) == id
    with pytest.raises(UnknownArtifact):
        registry.find(id.code_hash[:8])


def test_the_past_and_the_present_may_disagree_on_a_prefix(registry: Registry) -> None:
    one, two = ArtifactId.of(b"code"), ArtifactId.of(b"code", {"target": "gpu"})
    prepared(registry, one)
    registry.remove(one)
    prepared(registry, two)
    assert registry.find(one.code_hash) == two
    with pytest.raises(AmbiguousPrefix):
        registry.find(one.code_hash, past=True)


def test_times_and_order_are_those_of_the_events(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    for _ in range(3):
        prepared(registry, id)
        clock.tick(HOUR)
        registry.remove(id)
    times = [event.at for event in registry.history(id)]
    assert times == sorted(times)
    assert times[-1] == START + 3 * HOUR


# --- of all artifacts ---------------------------------------------------------------------------


def test_the_events_of_all_are_read_page_by_page_the_last_first(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_PAGE", 3)
    ids = [ArtifactId.of(b"%d" % number) for number in range(4)]
    for each in ids:
        prepared(registry, each)
    read = [(event.id, event.event) for event in registry.events()]
    assert read == [(each, what) for each in ids[::-1] for what in ("published", "claimed")]


def test_an_empty_cache_has_no_events(registry: Registry) -> None:
    assert list(registry.events()) == []
