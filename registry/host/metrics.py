"""The metrics of a host: its workers, its jobs, how long they waited and ran, what they used.

Each pool has one `PoolMetrics`. The event loop changes it; any thread may call `copy`.
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

# From a short execution to the longest preparation allowed.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 6, 12, 30, 60, 120, 240, 360)
BYTES = tuple(1024 * 4**power for power in range(13))  # 1 KiB to 16 GiB
DONE, WITHDRAWN = "ok", "withdrawn"


@dataclass
class Histogram:
    """How many values fell into each bucket, and their sum.

    Not prometheus_client's own: with PROMETHEUS_MULTIPROC_DIR set, that one keeps its counts in a
    file by the metric's name, so that the second host of a process starts with the first's counts.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value; a value equal to a bound falls into its bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def copy(self) -> Histogram:
        """Return a copy."""
        return replace(self, counts=list(self.counts))

    def samples(self, **labels: str) -> Iterator[Sample]:
        """Return Prometheus's samples; each bucket includes all smaller ones."""
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
    """The metrics of one pool. `flavour` is what its workers do: "prepare" or "execute"."""

    flavour: str
    spawning: int = 0  # attempts to spawn a worker
    spawned: int = 0
    retired: int = 0
    enqueued: int = 0
    concluded: Tally = field(
        default_factory=Tally
    )  # by outcome: "ok", "withdrawn", or the kind of the failure
    payload_bytes: Histogram = field(default_factory=_bytes)
    queued_seconds: Histogram = field(default_factory=_seconds)
    job_seconds: Histogram = field(default_factory=_seconds)
    peak_memory: Histogram = field(default_factory=_bytes)

    @contextmanager
    def accompany(self, job: Job, payload: bytes) -> Iterator[Job]:
        """Count a job until its outcome, and measure how long it waits and runs."""
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
        """Return a copy."""
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
    """A job, and when it began to wait."""

    job: Job
    metrics: PoolMetrics
    since: float

    async def perform(self, worker: Worker) -> object:
        begun = time.monotonic()
        try:
            outcome = await self.job.perform(worker)
        except WorkerLost:
            raise  # the job has not begun; another worker gets it
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
    """The metrics of a host and of its handle on the registry."""

    handle: Counters
    coalesced: int
    prepare: PoolMetrics
    execute: PoolMetrics

    def families(self) -> Iterator[Family]:
        """Make the families, for `registry.metrics.render`."""
        pools = (self.prepare, self.execute)
        yield from of_handle(self.handle)
        joined = "Requests that joined a preparation of this host."
        yield counter("registry_host_coalesced_total", joined, [Sample(self.coalesced)])
        yield from _counters(pools)
        yield from _histograms(pools)


def _counters(pools: Iterable[PoolMetrics]) -> Iterator[Family]:
    for name, about in (
        ("spawning", "Attempts to spawn a worker."),
        ("spawned", "Workers that started."),
        ("retired", "Workers that ended or were killed."),
    ):
        counts = [Sample(getattr(pool, name), {"flavour": pool.flavour}) for pool in pools]
        yield counter(f"registry_host_workers_{name}_total", about, counts)
    enqueued = [Sample(pool.enqueued, {"flavour": pool.flavour}) for pool in pools]
    yield counter("registry_host_jobs_enqueued_total", "Jobs requested.", enqueued)
    concluded = [
        Sample(count, {"flavour": pool.flavour, "outcome": outcome})
        for pool in pools
        for outcome, count in pool.concluded.items()
    ]
    yield counter("registry_host_jobs_concluded_total", "Jobs that ended, by outcome.", concluded)


def _histograms(pools: Iterable[PoolMetrics]) -> Iterator[Family]:
    for name, attribute, about in (
        ("payload_bytes", "payload_bytes", "Size of the input of jobs: code or a request."),
        ("queued_seconds", "queued_seconds", "How long jobs waited for a worker."),
        ("job_seconds", "job_seconds", "How long jobs ran, in wall-clock time."),
        ("peak_memory_bytes", "peak_memory", "Peak memory of successful jobs."),
    ):
        samples = [
            sample
            for pool in pools
            for sample in getattr(pool, attribute).samples(flavour=pool.flavour)
        ]
        yield Family(f"registry_host_{name}", "histogram", about, tuple(samples))
