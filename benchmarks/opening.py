"""What does opening cost, and can sixteen processes open a new directory at once?"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from processes.crew import Line
from processes.traces import assert_clean, code_id

from benchmarks.report import Options, Report, crew, ms, new_cache
from registry import Registry

PROCESSES = 16


def opens(line: Line, rounds: int) -> list[float]:
    """Open a new cache a round, at the same moment as the others; how long each took."""
    times = []
    for _ in range(rounds):
        cache = line.ask("ready")
        began = time.monotonic()
        registry = Registry(cache)
        times.append(time.monotonic() - began)
        registry.get_or_prepare(code_id("x"), lambda: b"x")
        registry.close()
    return times


def together(base: Path, rounds: int) -> list[float]:
    """Race; any error of any of them is raised."""
    with crew() as started:
        children = [started.start(opens, rounds) for _ in range(PROCESSES)]
        for number in range(rounds):
            for child in children:
                child.expect("ready")
            for child in children:
                child.tell(base / str(number))
        times = [seconds for child in children for seconds in child.hear()]
    for number in range(rounds):
        assert len(assert_clean(base / str(number))) == 1
    return times


def alone(cache: Path, rounds: int) -> list[float]:
    """Open an existing cache."""
    times = []
    for _ in range(rounds):
        began = time.monotonic()
        registry = Registry(cache)
        times.append(time.monotonic() - began)
        registry.close()
    return times


def measure(options: Options) -> Report:
    """Measure both."""
    rounds = options.rounds(20, 5)
    with new_cache() as base:
        raced = together(base, rounds)
        again = alone(base / "0", rounds)
    report = Report("What does opening cost?", ["", "opened", "median ms", "longest ms"])
    report.rows += [
        [f"{PROCESSES} at once, new", len(raced), ms(median(raced)), ms(max(raced))],
        ["one alone, made before", len(again), ms(median(again)), ms(max(again))],
    ]
    report.promise(f"{PROCESSES} processes, {rounds} new directories, no error", True)
    return report
