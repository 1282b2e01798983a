"""Metrics: what is counted is what was done, and Prometheus can read it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.making import claimed, failed, prepared
from support.paths import path_of
from support.tables import change, die
from support.threads import crew, waiters

from registry import (
    ArtifactId,
    AsyncRegistry,
    HandleClosed,
    PreparationFailed,
    PrepareError,
    Registry,
    metrics,
)
from registry.host.metrics import HostMetrics, PoolMetrics
from registry.verbs import counters
from registry.verbs.counters import OTHER, Evicted, Tally

NOW = timedelta(0)
DOCS = Path(__file__).parent.parent / "docs" / "metrics.md"

NewId = Callable[[], ArtifactId]


def read(text: str) -> dict[str, float]:
    """What Prometheus's own parser makes of it: `name{label=value}` -> the number."""
    numbers = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            numbers[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return numbers


def told(registry: Registry, name: str) -> float:
    return read(metrics.text(registry))[f"registry_{name}"]


def broken() -> bytes:
    raise PrepareError("no", kind="malformed")


# --- what a handle did --------------------------------------------------------------------------


def test_a_need_is_a_hit_or_a_miss(registry: Registry, other: Registry, id: ArtifactId) -> None:
    assert registry.need(id) is None
    prepared(other, id)
    registry.need(id)  # the first meeting
    registry.need(id)  # the hot path
    assert (registry.counters.hits, registry.counters.misses) == (2, 1)


def test_what_is_prepared_on_demand_is_one_miss_and_then_hits(
    registry: Registry, id: ArtifactId
) -> None:
    for _ in range(3):
        registry.get_or_prepare(id, lambda: b"artifact")
    registry.open_file(id).close()
    counted = registry.counters
    assert (counted.misses, counted.prepared, counted.hits) == (1, 1, 3)
    assert registry.counters.prepared_again == 0


def test_a_look_is_no_need(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    registry.get(id)
    list(registry.artifacts())
    assert (registry.counters.hits, registry.counters.misses) == (0, 0)


def test_those_who_wait_for_another_are_coalesced(
    registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(other, id)
    with waiters() as waiting, crew(3) as threads:
        joined = [threads.submit(registry.get_or_prepare, id, broken) for _ in range(3)]
        waiting.await_(3)
        claim.publish(b"artifact")
        assert {future.result().size for future in joined} == {8}
    counted = registry.counters
    assert (counted.misses, counted.coalesced, counted.prepared) == (3, 3, 0)
    assert other.counters.prepared == 1


def test_failures_are_counted_by_kind(registry: Registry, new_id: NewId) -> None:
    for _ in range(2):
        with pytest.raises(PreparationFailed):
            registry.get_or_prepare(new_id(), broken)
    claimed(registry, new_id()).fail("it went wrong")
    claimed(registry, new_id()).fail(ValueError("it went wrong"))
    assert registry.counters.failures == {"malformed": 2, "error": 1, "ValueError": 1}
    assert told(registry, "failures_total{kind=malformed}") == 2


def test_a_failure_that_is_remembered_is_not_counted_again(
    registry: Registry, id: ArtifactId
) -> None:
    for _ in range(2):
        with pytest.raises(PreparationFailed):
            registry.get_or_prepare(id, broken)
    assert registry.counters.failures == {"malformed": 1}


def test_whoever_finds_a_host_dead_counts_the_failure(
    registry: Registry, other: Registry, new_id: NewId, cache: Path
) -> None:
    taken_over, reaped, late = new_id(), new_id(), new_id()
    held = [claimed(other, each) for each in (taken_over, reaped, late)]
    for each in (taken_over, reaped):
        die(cache, each)
    change(cache, late, deadline=0)
    claim = claimed(registry, taken_over)
    registry.wait(reaped)
    registry.wait(late)
    assert registry.counters.failures == {"host_died": 2, "deadline": 1}
    assert other.counters.failures == {}
    del held, claim


def test_a_dead_host_is_reaped_by_one_who_comes_and_counts_its_claims(
    registry: Registry, new_id: NewId, cache: Path
) -> None:
    held = [claimed(registry, new_id()) for _ in range(2)]
    for claim in held:
        die(cache, claim.id)
    with Registry(cache) as newcomer:
        assert newcomer.counters.failures == {"host_died": 2}


def test_what_was_pruned_is_counted_and_known_when_it_is_prepared_again(
    registry: Registry, new_id: NewId
) -> None:
    ids = [new_id() for _ in range(3)]
    for each in ids:
        prepared(registry, each, size=100)
    registry.prune(cache_limit=100, min_stale_time=NOW)
    counted = registry.counters
    assert (counted.pruned, counted.pruned_bytes) == (2, 200)
    for each in (*ids[:1], new_id()):
        prepared(registry, each, size=100)
    registry.remove(ids[0])
    prepared(registry, ids[0])  # removed by hand, not for want of room
    counted = registry.counters
    assert (counted.prepared, counted.prepared_again) == (6, 1)


def test_a_publish_that_prunes_counts_it_and_a_dry_run_does_not(
    registry: Registry, new_id: NewId
) -> None:
    prepared(registry, new_id(), size=100)
    registry.prune(cache_limit=0, min_stale_time=NOW, dry_run=True)
    assert registry.counters.pruned == 0
    registry.configure(cache_limit=100, min_stale_time=NOW)
    prepared(registry, new_id(), size=100)
    assert (registry.counters.pruned, registry.counters.pruned_bytes) == (1, 100)


def test_a_missing_file_is_a_miss_and_discarded(registry: Registry, id: ArtifactId) -> None:
    path_of(prepared(registry, id)).unlink()
    assert registry.need(id) is None
    assert (registry.counters.misses, registry.counters.discarded) == (1, 1)


def test_the_async_twin_counts_the_same(cache: Path, id: ArtifactId) -> None:
    async def story() -> None:
        async with AsyncRegistry(cache) as registry:
            for _ in range(3):
                await registry.get_or_prepare(id, lambda: b"artifact")
            await registry.need(id)
            counted = await asyncio.to_thread(lambda: registry.counters)
            assert (counted.misses, counted.prepared, counted.hits) == (1, 1, 3)
            assert (await registry.measure()).stats.prepared_count == 1
        with pytest.raises(HandleClosed):
            _ = registry.counters

    asyncio.run(story())


def test_the_counters_given_are_a_copy(registry: Registry, id: ArtifactId) -> None:
    before = registry.counters
    failed(registry, id)
    registry.need(id)
    assert (before.misses, before.failures) == (0, {})
    before.failures.note("mine")
    assert "mine" not in registry.counters.failures


def test_a_closed_handle_tells_nothing(cache: Path) -> None:
    with Registry(cache) as registry:
        pass
    with pytest.raises(HandleClosed):
        _ = registry.counters
    with pytest.raises(HandleClosed):
        registry.measure()


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MOST_KINDS", 2)
    tally = Tally()
    for kind in ("a", "b", "c", "a", "d", None, "b" * 1000):
        tally.note(kind)
    assert tally == {"a": 2, "b": 1, OTHER: 4}


def test_the_memory_of_what_was_pruned_is_bounded(
    monkeypatch: pytest.MonkeyPatch, new_id: NewId
) -> None:
    monkeypatch.setattr(counters, "EVICTED_LIMIT", 2)
    evicted, ids = Evicted(), [new_id() for _ in range(3)]
    for each in (ids[0], ids[1], ids[0], ids[2]):
        evicted.note(each)
    assert [evicted.take(each) for each in ids] == [True, False, True]
    assert not evicted.take(ids[0])


def test_every_metric_is_in_the_docs_and_no_other(registry: Registry) -> None:
    pools = PoolMetrics("prepare"), PoolMetrics("execute")
    families = [
        *metrics.of_cache(registry.measure()),
        *HostMetrics(registry.counters, 0, *pools).families(),
    ]
    named = re.findall(r"^\| `(registry_\w+)", DOCS.read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(family.name for family in families)


# --- how the cache stands -----------------------------------------------------------------------


def test_an_empty_cache_has_metrics(registry: Registry) -> None:
    numbers = read(metrics.text(registry))
    assert numbers["registry_artifacts{state=prepared}"] == 0
    assert numbers["registry_hits_total"] == 0
    assert "registry_oldest_need_timestamp_seconds" not in numbers


def test_how_the_cache_stands_is_told_by_any_handle(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, new_id: NewId
) -> None:
    started = clock().timestamp()
    for size in (100, 1000):
        prepared(registry, new_id(), size=size)
        clock.tick(60)
    with pytest.raises(PreparationFailed):
        registry.get_or_prepare(new_id(), broken)
    failed(registry, new_id())
    registry.configure(cache_limit=5000)
    with registry.claim(new_id()):
        numbers = read(metrics.render(metrics.of_cache(other.measure())))
        happened = {name: n for name, n in other.stats().totals.items() if name != "pruned_bytes"}
    assert (happened["published"], happened["failed"], happened["pruned"]) == (2, 2, 0)
    assert numbers == {
        "registry_artifacts{state=prepared}": 2,
        "registry_failed_bytes": 15,
        "registry_artifacts{state=preparing}": 1,
        "registry_artifacts{state=failed}": 2,
        "registry_failed_artifacts{kind=malformed}": 1,
        "registry_failed_artifacts{kind=error}": 1,
        "registry_prepared_bytes": 1100,
        "registry_cache_limit_bytes": 5000,
        "registry_hosts": 2,
        "registry_oldest_need_timestamp_seconds": started,
    } | {f"registry_cache_events_total{{event={event}}}": n for event, n in happened.items()}


def test_the_rarest_kinds_of_the_failed_are_told_together(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, new_id: NewId
) -> None:
    monkeypatch.setattr("registry.verbs.stats.MOST_KINDS", 1)
    for kind in ("rare", "often", "often", None):
        claimed(registry, new_id()).fail("it went wrong", kind=kind)
    assert registry.measure().failed_by_kind == {"often": 2, OTHER: 2}


def test_any_kind_can_be_read_back(registry: Registry, id: ArtifactId) -> None:
    kind = 'a "kind", of\nC:\\new\\{stuff} \N{SNOWMAN}'
    claimed(registry, id).fail("it went wrong", kind=kind)
    numbers = read(metrics.text(registry))
    assert numbers[f"registry_failures_total{{kind={kind}}}"] == 1
    assert numbers[f"registry_failed_artifacts{{kind={kind}}}"] == 1


def test_the_collector_of_prometheus_client_tells_the_same(
    registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    collectors = CollectorRegistry()
    collectors.register(metrics.Collector(lambda: metrics.families(registry)))
    assert read(generate_latest(collectors).decode()) == read(metrics.text(registry))
