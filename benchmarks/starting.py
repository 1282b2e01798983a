"""What does it cost to start: to import, to open an existing cache, to list it from the shell?

Each import runs in a new process and is timed inside, so that Python's own start does not count.
The command is timed from outside, compared with a process that does nothing. Each round has them
all, and each process finds the .pyc files that the first round wrote.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.contest import Contestant, Work, contest, ratio, spread
from benchmarks.report import Options, Report, new_cache
from benchmarks.stock import fill
from registry import Registry

IMPORT_MOST, LS_MOST, OPEN_MOST = 0.25, 8.0, 0.015
TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
SQLALCHEMY, OURS = "import sqlalchemy", "from registry import Registry"
PASS, LS = "`python -c pass`", "`registry ls` of 10 rows"
IMPORTS = (SQLALCHEMY, OURS, "import registry")


def python(*arguments: str) -> str:
    """What a new Python prints, which may keep what it compiles."""
    settings = {name: it for name, it in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=settings).stdout


def importing(words: str, taken: list[float]) -> Contestant:
    """Import something in a process of its own, which says how long that took."""
    return lambda _: lambda: taken.append(float(python("-c", TIMED.format(words))))


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
        imports: dict[str, list[float]] = {words: [] for words in IMPORTS}
        named = {
            **{words: importing(words, seconds) for words, seconds in imports.items()},
            PASS: lambda _: lambda: python("-c", "pass"),
            LS: lambda _: lambda: python(*listed),
            "open a cache of 10 rows": opening(small),
            f"open a cache of {rows:,} rows": opening(large),
        }
        taken = contest(named, rounds=options.rounds(15, 2), times=1)
    report.rows += [[words, spread(seconds[1:])] for words, seconds in imports.items()]
    report.rows += [[name, spread(one.clock)] for name, one in taken.items() if name not in imports]
    got = ratio(imports[OURS][1:], imports[SQLALCHEMY][1:])
    words = f"importing Registry takes at most {IMPORT_MOST} x of SQLAlchemy ({got:.2f} x)"
    report.promise(words, got <= IMPORT_MOST)
    got = ratio(taken[LS].clock, taken[PASS].clock)
    report.promise(
        f"`registry ls` takes at most {LS_MOST:.0f} x of Python ({got:.1f} x)", got <= LS_MOST
    )
    opened = median(taken[f"open a cache of {rows:,} rows"].clock)
    report.promise(f"open at most 15 ms ({1e3 * opened:.1f} ms)", opened <= OPEN_MOST)
    return report
