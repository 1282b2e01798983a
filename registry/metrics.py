"""Metrics, in the text format that Prometheus and all its relatives read (version 0.0.4).

Two things are told apart. How the *cache* stands is asked of the database, so any process can tell
it, and all tell the same. What a *handle* did is counted in its own process, from its opening on,
and dies with it: whoever collects adds the processes up. `docs/metrics.md` names them all.

Nothing here counts: families are made of what was counted, and written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from prometheus_client import Metric

    from registry.sync import Registry
    from registry.verbs.counters import Counters
    from registry.verbs.stats import Measurement

__all__ = [
    "CONTENT_TYPE",
    "Collector",
    "Family",
    "Sample",
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
    """One number of a family; a histogram's parts add a suffix to its name."""

    value: float
    labels: Labels = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, its kind, what it says, and its numbers just now."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]


def text(registry: Registry) -> str:
    """Tell how the cache stands, and what this handle did, as Prometheus reads it."""
    return render(families(registry))


def families(registry: Registry) -> list[Family]:
    """Measure how the cache stands, and what this handle did."""
    return [*of_cache(registry.measure()), *of_handle(registry.counters)]


def of_cache(measured: Measurement) -> Iterator[Family]:
    """Make families of how a cache stands."""
    stats, oldest = measured.stats, measured.oldest_need
    states = {
        "prepared": stats.prepared_count,
        "preparing": stats.preparing_count,
        "failed": stats.failed_count,
    }
    failed = measured.failed_by_kind
    yield _gauge("registry_artifacts", "Artifacts, by state.", _by("state", states))
    yield _gauge("registry_failed_artifacts", "Failed artifacts, by kind.", _by("kind", failed))
    yield _gauge("registry_failed_bytes", "Bytes of their errors.", _one(stats.failed_bytes))
    yield _gauge("registry_prepared_bytes", "Bytes of the prepared.", _one(stats.prepared_bytes))
    yield _gauge("registry_cache_limit_bytes", "Bytes it may hold.", _one(stats.cache_limit))
    yield _gauge("registry_hosts", "Living handles, in any process.", _one(measured.hosts_alive))
    yield _gauge(
        "registry_oldest_need_timestamp_seconds",
        "When the prepared artifact that was needed longest ago was needed.",
        () if oldest is None else _one(oldest.timestamp()),
    )
    events = {name: count for name, count in stats.totals.items() if name != "pruned_bytes"}
    says = "What happened in all processes, since the cache was made."
    yield counter("registry_cache_events_total", says, _by("event", events))


def of_handle(counted: Counters) -> Iterator[Family]:
    """Make families of what a handle did."""
    for name, count, says in (
        ("hits", counted.hits, "Needs answered at once with a prepared artifact."),
        ("misses", counted.misses, "Needs for which there was no prepared artifact."),
        ("coalesced", counted.coalesced, "Waits for a preparation that was under way already."),
        ("prepared", counted.prepared, "Artifacts published."),
        ("prepared_again", counted.prepared_again, "Published, having been pruned before."),
        ("pruned", counted.pruned, "Artifacts pruned."),
        ("pruned_bytes", counted.pruned_bytes, "Bytes pruned."),
        ("forgotten", counted.forgotten, "Failures deleted, beyond their bounds."),
        ("discarded", counted.discarded, "Artifacts whose file was missing or damaged."),
    ):
        yield counter(f"registry_{name}_total", says, _one(count))
    failures = _by("kind", counted.failures)
    yield counter("registry_failures_total", "Failures recorded, by kind.", failures)


def counter(name: str, says: str, samples: Iterable[Sample]) -> Family:
    """Make a family of what only grows; its name ends in `_total`."""
    return Family(name, "counter", says, _legible(samples))


def render(families: Iterable[Family]) -> str:
    """Write families down."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


class Collector:
    """What `prometheus_client` asks at each scrape: `REGISTRY.register(Collector(source))`.

    `source` is asked from whichever thread scrapes: `lambda: families(registry)`, or, for a host,
    `lambda: host.metrics.families()`. Needs the extra "metrics".
    """

    def __init__(self, source: Callable[[], Iterable[Family]]) -> None:
        import prometheus_client  # so that it is missed here, not at the first scrape

        self._metric = prometheus_client.Metric
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Ask the source, in the client's own words."""
        for family in self._source():
            # To the client, "_total" is no part of a counter's name.
            metric = self._metric(family.name.removesuffix("_total"), family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        """Say nothing: the client would collect once to find out the names."""
        return ()


def _gauge(name: str, says: str, samples: Iterable[Sample]) -> Family:
    return Family(name, "gauge", says, _legible(samples))


def _one(value: float) -> tuple[Sample]:
    return (Sample(value),)


def _by(label: str, values: Mapping[str, int]) -> Iterator[Sample]:
    return (Sample(value, {label: word}) for word, value in values.items())


def _lines(family: Family) -> Iterator[str]:
    says = family.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {family.name} {says}"
    yield f"# TYPE {family.name} {family.kind}"
    for sample in family.samples:
        labels = ",".join(f'{name}="{_escaped(word)}"' for name, word in sample.labels.items())
        where = f"{{{labels}}}" if labels else ""
        yield f"{family.name}{sample.suffix}{where} {sample.value}"


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _legible(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Show what a terminal would obey (ESC, an override of the direction) as Python writes it.

    Labels that then read alike are added up: Prometheus refuses one series told twice.
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
    # A line break has an escape of its own in the format.
    return "".join(it if it.isprintable() or it == "\n" else ascii(it)[1:-1] for it in word)
