"""What does it cost to start: to import, to open an existing cache, to list it from the shell?

Each import runs in a new process and is timed inside, so that Python's own start does not count.
The command is timed from outside, compared with a process that does nothing.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contest import Contestant, Work, contest, ratio, spread
from benchmarks.report import Options, Report, new_cache
from benchmarks.stock import fill
from registry import Registry

IMPORT_MOST, OPEN_MOST = 1.2, 0.015
TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
SQLALCHEMY, OURS = "import sqlalchemy", "from registry import Registry"
IMPORTS = (SQLALCHEMY, OURS, "import registry")


def python(*arguments: str) -> str:
    """What a new Python prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def imports(rounds: int) -> dict[str, list[float]]:
    """What each import takes in a process of its own."""
    taken: dict[str, list[float]] = {words: [] for words in IMPORTS}
    for number in range(rounds + 1):
        for words in IMPORTS:
            seconds = float(python("-c", TIMED.format(words)))
            if number:  # the first ones write the .pyc files
                taken[words].append(seconds)
    return taken


def opening(cache: Path) -> Contestant:
    """Open a cache; it is closed between the rounds."""
    handles: list[Registry] = []

    def ready(_: int) -> Work:
        while handles:
            handles.pop().close()
        return lambda: handles.append(Registry(cache))

    return ready


def measure(options: Options) -> Report:
    """Measure all three."""
    rows = options.rounds(100_000, 5_000)
    report = Report("What does it cost to start?", ["", "took"])
    with ExitStack() as stack:
        small, large = (stack.enter_context(new_cache()) for _ in range(2))
        fill(small, 10)
        fill(large, rows)
        listed = ("-m", "registry", "--cache", str(small), "ls")
        named = {
            "open a cache of 10 rows": opening(small),
            f"open a cache of {rows:,} rows": opening(large),
            "`python -c pass`": lambda _: lambda: python("-c", "pass"),
            "`registry ls` of 10 rows": lambda _: lambda: python(*listed),
        }
        taken = contest(named, rounds=options.rounds(15, 2), times=1)
        imported = imports(options.rounds(15, 2))
    report.rows += [[words, spread(seconds)] for words, seconds in imported.items()]
    report.rows += [[name, spread(one.clock)] for name, one in taken.items()]
    got = ratio(imported[OURS], imported[SQLALCHEMY])
    words = f"importing Registry takes at most {IMPORT_MOST} x of SQLAlchemy ({got:.2f} x)"
    report.promise(words, got <= IMPORT_MOST)
    opened = sorted(taken[f"open a cache of {rows:,} rows"].clock)
    middle = opened[len(opened) // 2]
    report.promise(f"open at most 15 ms ({1e3 * middle:.1f} ms)", middle <= OPEN_MOST)
    return report
