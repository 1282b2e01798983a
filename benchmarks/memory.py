"""What memory does a handle take, and does it grow with the rows?

In a separate process: its resident memory before it opens the cache, after it has opened, listed a
page, counted, claimed and needed, and the memory of each artifact that it keeps hot.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from statistics import median

from processes.crew import Line
from processes.traces import claimed, code_id

from benchmarks.report import Options, Report, crew, new_cache
from benchmarks.stock import fill
from registry import Registry
from registry.verbs.handle import HOT_LIMIT

HOT = 2000
GROWTH_MOST = 1.0  # MB


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def uses(_line: Line, cache: Path) -> int:
    """Open a handle and use it; bytes more than before."""
    with Registry(cache.parent / "small") as registry:  # what is loaded at the first use
        look(registry)
    before = resident()
    with Registry(cache) as registry:
        look(registry)
        return resident() - before


def look(registry: Registry) -> None:
    """Each kind of verb once."""
    registry.stats()
    list(islice(registry.artifacts(), 500))
    registry.get(code_id(0))
    with claimed(registry, code_id("fresh")) as claim:
        claim.release()


def heats(_line: Line, cache: Path) -> float:
    """Need many artifacts; bytes for each."""
    with Registry(cache) as registry:
        look(registry)
        before = resident()
        for key in range(HOT):
            registry.need(code_id(key))
        return (resident() - before) / HOT


def measure(options: Options) -> Report:
    """Measure at several sizes."""
    sizes = [1000, options.rounds(1_000_000, 20_000)]
    report = Report("What memory does a handle take?", ["rows", "MB of the handle"])
    taken = []
    with new_cache() as base, crew() as started:
        for name, size in (("small", 1000), *((str(size), size) for size in sizes)):
            fill(base / name, size)
        fill(base / "hot", HOT, files=True)
        for size in sizes:
            rounds = range(options.rounds(5, 1))
            got = [started.start(uses, base / str(size)).hear() for _ in rounds]
            taken.append(median(got) / 1e6)
            report.rows.append([f"{size:,}", f"{taken[-1]:.2f}"])
        each = started.start(heats, base / "hot").hear()
    grown = taken[1] - taken[0]
    words = f"{sizes[1]:,} rows take no more than {sizes[0]:,}: {grown:+.2f} MB"
    report.promise(words, grown < GROWTH_MOST)
    held = f"{HOT_LIMIT:,} artifacts at most are kept hot, of {each:,.0f} bytes each"
    report.notes.append(f"{held}: {each * HOT_LIMIT / 1e6:.0f} MB.\n")
    return report
