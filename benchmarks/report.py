"""What a benchmark returns: a Markdown table, and helpers for its numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes.crew import Crew

from benchmarks.plot import Plot

__all__ = ["Options", "Report", "crew", "ms", "new_cache", "percentile"]


@dataclass(frozen=True)
class Options:
    """How much time a benchmark may take."""

    quick: bool = False
    seconds: float | None = None

    def rounds(self, number: int, quick: int) -> int:
        return quick if self.quick else number


@dataclass
class Report:
    """A question, a table that answers it, and whether the promises are kept."""

    question: str
    head: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    promises: list[tuple[str, bool]] = field(default_factory=list)
    plots: dict[str, Plot] = field(default_factory=dict)  # by the names of their files

    def promise(self, words: str, kept: bool) -> None:
        self.promises.append((words, kept))

    @property
    def kept(self) -> bool:
        return all(kept for _, kept in self.promises)

    def __str__(self) -> str:
        table = [self.head, ["---"] * len(self.head), *self.rows]
        lines = [f"**{self.question}**", ""]
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table]
        lines += ["", *self.notes]
        lines += [f"- {'kept' if kept else 'MISSED'}: {words}" for words, kept in self.promises]
        return "\n".join(lines)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ms(seconds: float) -> str:
    """Seconds, as milliseconds to read."""
    return f"{1000 * seconds:.2f}" if seconds < 0.01 else f"{1000 * seconds:.1f}"


@contextmanager
def new_cache() -> Iterator[Path]:
    """A new directory, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="registry-benchmark-") as folder:
        yield Path(folder) / "cache"


@contextmanager
def crew() -> Iterator[Crew]:
    """Processes that end with the block."""
    started = Crew()
    try:
        yield started
    finally:
        started.dismiss()
