"""Metrics in Prometheus's text format (version 0.0.4), written by `prometheus_client`.

The state of a *cache* is read from the database; every process reports the same. The counters of a
*handle* live in its process, start when it is opened and end with it; add them up over the
processes. `docs/metrics.md` lists all metrics.

This module counts nothing. It turns counters into families. `prometheus_client` is imported only
when a family is rendered or collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.registry import Collector as _Collector

    from registry.sync import Registry
    from registry.verbs.counters import Counters
    from registry.verbs.stats import Measurement
else:
    _Collector = object

__all__ = [
    "CONTENT_TYPE",
    "Collector",
    "Family",
    "Sample",
    "counter",
    "families",
    "of_cache",
    "of_handle",
    "render",
    "text",
]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a family. The samples of a histogram add a suffix to its name."""

    value: float
    labels: Labels = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, kind, help text and current samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]


def text(registry: Registry) -> str:
    """Return the metrics of the cache and of this handle in Prometheus's text format."""
    return render(families(registry))


def families(registry: Registry) -> list[Family]:
    """Return the metrics of the cache and of this handle."""
    return [*of_cache(registry.measure()), *of_handle(registry.counters)]


def of_cache(measured: Measurement) -> Iterator[Family]:
    """Make the families of a cache."""
    stats, oldest = measured.stats, measured.oldest_need
    states = {
        "prepared": stats.prepared_count,
        "preparing": stats.preparing_count,
        "failed": stats.failed_count,
    }
    failed = measured.failed_by_kind
    yield _gauge("registry_artifacts", "Artifacts, by state.", _by("state", states))
    yield _gauge("registry_failed_artifacts", "Failed artifacts, by kind.", _by("kind", failed))
    yield _gauge(
        "registry_failed_bytes",
        "Bytes of the errors of failed artifacts.",
        _one(stats.failed_bytes),
    )
    yield _gauge(
        "registry_prepared_bytes", "Bytes of prepared artifacts.", _one(stats.prepared_bytes)
    )
    for name, about, pick in _BY_KIND:
        counted = {kind: getattr(held, pick) for kind, held in stats.by_kind.items()}
        yield _gauge(name, about, _by("kind", counted))
    yield _gauge(
        "registry_cache_limit_bytes",
        "Limit of the bytes of prepared artifacts.",
        _one(stats.cache_limit),
    )
    yield _gauge("registry_hosts", "Open handles, in all processes.", _one(measured.hosts_alive))
    yield _gauge(
        "registry_oldest_need_timestamp_seconds",
        "When the least recently needed prepared artifact was last needed.",
        () if oldest is None else _one(oldest.timestamp()),
    )
    events = {name: count for name, count in stats.totals.items() if name != "pruned_bytes"}
    about = "Events in all processes since the cache was created, by event."
    yield counter("registry_cache_events_total", about, _by("event", events))


_BY_KIND = (
    ("registry_kind_prepared", "Prepared artifacts, by kind.", "prepared_count"),
    ("registry_kind_prepared_bytes", "Bytes of prepared artifacts, by kind.", "prepared_bytes"),
    ("registry_kind_failed", "Failed artifacts, by kind.", "failed_count"),
)


def of_handle(counted: Counters) -> Iterator[Family]:
    """Make the families of a handle's counters."""
    for name, count, about in (
        ("hits", counted.hits, "Needs answered at once with a prepared artifact."),
        ("misses", counted.misses, "Needs that found no prepared artifact."),
        ("coalesced", counted.coalesced, "Waits for a preparation that had already started."),
        ("prepared", counted.prepared, "Artifacts published."),
        ("prepared_again", counted.prepared_again, "Artifacts published again after being pruned."),
        ("pruned", counted.pruned, "Artifacts pruned."),
        ("pruned_bytes", counted.pruned_bytes, "Bytes pruned."),
        ("forgotten", counted.forgotten, "Failures deleted because of their limits."),
        (
            "discarded",
            counted.discarded,
            "Artifacts dropped because their file was missing or damaged.",
        ),
    ):
        yield counter(f"registry_{name}_total", about, _one(count))
    failures = _by("kind", counted.failures)
    yield counter("registry_failures_total", "Failures recorded, by kind.", failures)


def counter(name: str, about: str, samples: Iterable[Sample]) -> Family:
    """Make a counter; its name must end in `_total`."""
    return Family(name, "counter", about, _legible(samples))


def render(families: Iterable[Family]) -> str:
    """Write families in Prometheus's text format."""
    from prometheus_client import generate_latest

    return generate_latest(Collector(lambda: families)).decode()


class Collector(_Collector):
    """The source of a `prometheus_client` registry: `REGISTRY.register(Collector(source))`.

    `source` is called at each scrape, in the thread that scrapes: `lambda: families(registry)` or,
    for a host, `lambda: host.metrics.families()`.
    """

    def __init__(self, source: Callable[[], Iterable[Family]]) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Call the source, and convert its families."""
        from prometheus_client import Metric

        for family in self._source():
            # prometheus_client adds "_total" to the name of a counter.
            metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        """Return nothing; otherwise the client collects once, only to learn the names."""
        return ()


def _gauge(name: str, about: str, samples: Iterable[Sample]) -> Family:
    return Family(name, "gauge", about, _legible(samples))


def _one(value: float) -> tuple[Sample]:
    return (Sample(value),)


def _by(label: str, values: Mapping[str, int]) -> Iterator[Sample]:
    return (Sample(value, {label: word}) for word, value in values.items())


def _legible(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Escape unprintable characters (ESC, a change of direction) in labels.

    Series whose labels are then equal are added up: Prometheus refuses a duplicate series.
    """
    found: dict[tuple[str, ...], Sample] = {}
    for sample in samples:
        labels = {name: _shown(word) for name, word in sample.labels.items()}
        series = (sample.suffix, *labels.values())
        before = found[series].value if series in found else 0
        found[series] = Sample(before + sample.value, labels, sample.suffix)
    return tuple(found.values())


def _shown(word: str) -> str:
    if word.isprintable():
        return word
    # The text format has its own escape for a line break.
    return "".join(it if it.isprintable() or it == "\n" else ascii(it)[1:-1] for it in word)
