"""Contestants take turns, round by round, so that other work on the machine disturbs all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TypeAlias

__all__ = ["Contestant", "Taken", "Work", "contest", "hot", "ratio", "spread"]

Work: TypeAlias = Callable[[], object]
Contestant: TypeAlias = Callable[[int], Work]  # given the round, makes ready what is then timed


@dataclass
class Taken:
    """What something took once, a figure a round: seconds by the clock, and seconds of CPU."""

    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def note(self, clock: float, cpu: float) -> None:
        self.clock.append(clock)
        self.cpu.append(cpu)


def contest(contestants: Mapping[str, Contestant], *, rounds: int, times: int) -> dict[str, Taken]:
    """Let each do its work `times` times a round; the first round only warms up."""
    taken = {name: Taken() for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            gc.collect()
            work = contestant(number)
            cpu, clock = time.process_time(), time.perf_counter()
            work()
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            if number:
                taken[name].note(clock / times, cpu / times)
    return taken


def hot(work: Work) -> Work:
    """Do it once just before it is timed: after a second, a need writes the last use again."""
    work()
    return work


def spread(seconds: list[float]) -> str:
    """The median and, in brackets, the quartiles, in the unit that reads best."""
    middle = median(seconds)
    scale, unit = (1e6, "µs") if middle < 1e-3 else (1e3, "ms") if middle < 1 else (1, "s")
    low, _, high = quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [middle] * 3
    return f"{_short(middle * scale)} {unit} ({_short(low * scale)}–{_short(high * scale)})"


def ratio(one: list[float], other: list[float]) -> float:
    """How many times the other's median the one's is."""
    return median(one) / median(other)


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:.0f}"
