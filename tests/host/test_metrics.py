"""What a host counts is what it did."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from host.stories import ECHO, ROGUE, meeting, story, wish
from prometheus_client.parser import text_string_to_metric_families

from registry import AsyncRegistry, PreparationFailed
from registry.host import Host, InvalidCandidate
from registry.host.metrics import Histogram, PoolMetrics
from registry.host.pool.worker import WorkerLost
from registry.metrics import render


@story
async def test_a_host_counts_its_workers_jobs_and_what_they_used(cache):
    async with AsyncRegistry(cache) as registry:
        async with Host(registry, ECHO) as host:
            for request in (1, 2, 3):
                await host.execute(b"code", {}, request)
        counted = host.metrics
    assert (counted.handle.misses, counted.handle.prepared, counted.handle.hits) == (1, 1, 2)
    for pool, jobs in ((counted.prepare, 1), (counted.execute, 3)):
        assert (pool.spawning, pool.spawned, pool.retired) == (1, 1, 1)
        assert (pool.enqueued, pool.concluded) == (jobs, {"ok": jobs})
        for measured in (pool.queued_seconds, pool.job_seconds, pool.peak_memory):
            assert sum(measured.counts) == jobs
        assert pool.job_seconds.sum > 0
        assert pool.peak_memory.sum > jobs * 1024**2
    assert counted.prepare.payload_bytes.sum == len(b"code")


@story
async def test_a_host_counts_failures_by_kind(cache):
    async with AsyncRegistry(cache) as registry, Host(registry, ROGUE) as host:
        with pytest.raises(PreparationFailed):
            await host.precheck(wish("raise", error="Prevalidation"))
        request = {"do": "raise", "error": "InvalidCandidate"}
        with pytest.raises(InvalidCandidate):
            await host.execute(wish("answer"), {}, request)
        counted = host.metrics
    assert counted.handle.failures == {"prevalidation": 1}
    assert counted.prepare.concluded == {"prevalidation": 1, "ok": 1}
    assert counted.execute.concluded == {"rejected": 1}
    assert sum(counted.execute.job_seconds.counts) == 1


@story
async def test_requests_that_join_a_preparation_are_coalesced(cache):
    async with meeting() as met, AsyncRegistry(cache) as registry, Host(registry, ROGUE) as host:
        code = wish("meet", at=met.at)
        asked = [asyncio.create_task(host.precheck(code))]
        guest = await met.guest()
        asked += [asyncio.create_task(host.precheck(code)) for _ in range(3)]
        while host.metrics.coalesced < 3:  # noqa: ASYNC110  # each identifies its code in a thread
            await asyncio.sleep(0)
        guest.dismiss()
        await asyncio.gather(*asked)
        assert (host.metrics.coalesced, host.metrics.handle.prepared) == (3, 1)
        assert host.metrics.prepare.enqueued == 1


@story
async def test_a_job_that_nobody_wants_any_more_is_withdrawn(cache):
    async with meeting() as met, AsyncRegistry(cache) as registry, Host(registry, ROGUE) as host:
        request = {"do": "meet", "at": met.at}
        asked = asyncio.create_task(host.execute(wish("answer"), {}, request))
        await met.guest()
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
        assert host.metrics.execute.concluded == {"withdrawn": 1}


class Unlucky:
    """A job whose first worker dies before it has it."""

    def __init__(self) -> None:
        self.tries = 0

    async def perform(self, worker: object) -> str:
        self.tries += 1
        if self.tries == 1:
            raise WorkerLost
        return "done"


@story
async def test_a_job_that_changes_its_worker_is_one_job():
    pool = PoolMetrics("prepare")
    with pool.accompany(Unlucky(), b"code") as job:
        with suppress(WorkerLost):
            await job.perform(None)
        await job.perform(None)
    assert (pool.enqueued, pool.concluded) == (1, {"ok": 1})
    assert sum(pool.queued_seconds.counts) == sum(pool.job_seconds.counts) == 1


def test_a_value_is_counted_in_each_bucket_that_holds_it():
    histogram = Histogram((1, 10))
    for value in (0, 1, 2, 10, 11):
        histogram.observe(value)
    buckets = {
        sample.labels.get("le", sample.suffix): sample.value for sample in histogram.samples()
    }
    assert buckets == {"1": 2, "10": 4, "+Inf": 5, "_sum": 24, "_count": 5}


@story
async def test_a_hosts_text_is_read_by_prometheus(cache):
    async with AsyncRegistry(cache) as registry, Host(registry, ECHO) as host:
        await host.execute(b"code", {}, 1)
        text = render(host.metrics.families())
    read = {family.name: family for family in text_string_to_metric_families(text)}
    for name in ("job_seconds", "queued_seconds", "peak_memory_bytes", "payload_bytes"):
        family = read[f"registry_host_{name}"]
        assert family.type == "histogram"
        counts = [s.value for s in family.samples if s.name.endswith("_count")]
        assert counts == [1, 1]
    spawned = read["registry_host_workers_spawned"]
    assert [(s.labels, s.value) for s in spawned.samples] == [
        ({"flavour": "prepare"}, 1),
        ({"flavour": "execute"}, 1),
    ]
    assert read["registry_misses"].samples[0].value == 1
