"""What a host counts: its workers, its jobs, how long they waited and took, and what they used.

A pool has one `PoolMetrics`, to which its crew adds as workers come and go, and the pool itself as
jobs do. All of it belongs to one event loop; `copy` may be called from any thread.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from registry.host.pool.job import Job
from registry.host.pool.worker import Worker, WorkerLost
from registry.metrics import Family, Sample, counter, of_handle
from registry.verbs.counters import Counters, Tally

__all__ = ["Histogram", "HostMetrics", "PoolMetrics"]

# From what an execution takes to the longest that a preparation may.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 6, 12, 30, 60, 120, 240, 360)
BYTES = tuple(1024 * 4**power for power in range(13))  # 1 KiB to 16 GiB
DONE, WITHDRAWN = "ok", "withdrawn"


@dataclass
class Histogram:
    """How often values fell beneath each bound, and what they sum up to."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value; one that is a bound falls beneath it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Histogram:
        """Take it as it is now."""
        return replace(self, counts=list(self.counts))

    def samples(self, **labels: str) -> Iterator[Sample]:
        """Say it as Prometheus wants it: each bucket holds all that are beneath its bound."""
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            yield Sample(total, {**labels, "le": bound}, "_bucket")
        yield Sample(self.sum, labels, "_sum")
        yield Sample(total, labels, "_count")


def _seconds() -> Histogram:
    return Histogram(SECONDS)


def _bytes() -> Histogram:
    return Histogram(BYTES)


@dataclass
class PoolMetrics:
    """What one pool counts. The flavour is what its workers do: "prepare" or "execute"."""

    flavour: str
    spawning: int = 0  # begun to be spawned, each try
    spawned: int = 0
    retired: int = 0
    enqueued: int = 0
    concluded: Tally = field(default_factory=Tally)  # by outcome: "ok", "withdrawn", or the kind
    payload_bytes: Histogram = field(default_factory=_bytes)
    queued_seconds: Histogram = field(default_factory=_seconds)
    job_seconds: Histogram = field(default_factory=_seconds)
    peak_memory: Histogram = field(default_factory=_bytes)

    @contextmanager
    def accompany(self, job: Job, payload: bytes) -> Iterator[Job]:
        """Count a job from here to its outcome, and clock it while it is performed."""
        self.enqueued += 1
        self.payload_bytes.observe(len(payload))
        outcome = DONE
        try:
            yield _Clocked(job, self, time.monotonic())
        except asyncio.CancelledError:
            outcome = WITHDRAWN
            raise
        except BaseException as error:
            outcome = str(getattr(error, "kind", None) or type(error).__name__)
            raise
        finally:
            self.concluded.note(outcome)

    def copy(self) -> PoolMetrics:
        """Take them as they are now."""
        return replace(
            self,
            concluded=Tally(self.concluded),
            payload_bytes=self.payload_bytes.copy(),
            queued_seconds=self.queued_seconds.copy(),
            job_seconds=self.job_seconds.copy(),
            peak_memory=self.peak_memory.copy(),
        )


@dataclass(frozen=True, slots=True)
class _Clocked:
    """A job, and since when it waits."""

    job: Job
    metrics: PoolMetrics
    since: float

    async def perform(self, worker: Worker) -> object:
        begun = time.monotonic()
        try:
            outcome = await self.job.perform(worker)
        except WorkerLost:
            raise  # it did not begin, and goes to another worker
        except BaseException:
            self._ended(begun)
            raise
        self._ended(begun)
        return outcome

    def _ended(self, begun: float) -> None:
        self.metrics.queued_seconds.observe(begun - self.since)
        self.metrics.job_seconds.observe(time.monotonic() - begun)


@dataclass(frozen=True, slots=True)
class HostMetrics:
    """What a host, and its handle on the registry, did until now."""

    handle: Counters
    coalesced: int
    prepare: PoolMetrics
    execute: PoolMetrics

    def families(self) -> Iterator[Family]:
        """Say it all for `registry.metrics.render`."""
        pools = (self.prepare, self.execute)
        yield from of_handle(self.handle)
        joined = "Requests that joined a preparation of this host."
        yield counter("registry_host_coalesced_total", joined, [Sample(self.coalesced)])
        yield from _counters(pools)
        yield from _histograms(pools)


def _counters(pools: Iterable[PoolMetrics]) -> Iterator[Family]:
    for name, says in (
        ("spawning", "Workers begun to be spawned, each try."),
        ("spawned", "Workers that came up."),
        ("retired", "Workers that ended, or were killed."),
    ):
        counts = [Sample(getattr(pool, name), {"flavour": pool.flavour}) for pool in pools]
        yield counter(f"registry_host_workers_{name}_total", says, counts)
    enqueued = [Sample(pool.enqueued, {"flavour": pool.flavour}) for pool in pools]
    yield counter("registry_host_jobs_enqueued_total", "Jobs that were asked for.", enqueued)
    concluded = [
        Sample(count, {"flavour": pool.flavour, "outcome": outcome})
        for pool in pools
        for outcome, count in pool.concluded.items()
    ]
    yield counter("registry_host_jobs_concluded_total", "Jobs that ended, by outcome.", concluded)


def _histograms(pools: Iterable[PoolMetrics]) -> Iterator[Family]:
    for name, attribute, says in (
        ("payload_bytes", "payload_bytes", "Size of what jobs were given: code, or a request."),
        ("queued_seconds", "queued_seconds", "How long jobs waited for a worker."),
        ("job_seconds", "job_seconds", "How long jobs took, by the clock on the wall."),
        ("peak_memory_bytes", "peak_memory", "Most memory that a job which went well had."),
    ):
        samples = [
            sample
            for pool in pools
            for sample in getattr(pool, attribute).samples(flavour=pool.flavour)
        ]
        yield Family(f"registry_host_{name}", "histogram", says, tuple(samples))
