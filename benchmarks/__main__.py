"""`python -m benchmarks [NAME ...] [--quick] [--seconds N] [--markdown FILE] [--plots FOLDER]`.

Measure and print Markdown tables; with the options, also write them and the plots to files.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sqlite3
import sys
from pathlib import Path

from benchmarks.report import Options, Report

NAMES = (
    "once",
    "hot_need",
    "loading",
    "needs",
    "transitions",
    "claims",
    "waiting",
    "takeover",
    "opening",
    "starting",
    "publishing",
    "pruning",
    "memory",
    "journal_cost",
    "wal",
    "scale",
    "async_latency",
    "host_latency",
    "torture",
)


def main() -> int:
    """Run the named benchmarks, by default all; return 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("--seconds", type=float, help="how long to torture, or to write")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    parser.add_argument("--plots", type=Path, help="write the plots into this folder, as SVG")
    given = parser.parse_args()
    for name in given.names:
        if name not in NAMES:
            parser.error(f"there is no measurement {name!r}")
    options = Options(given.quick, given.seconds)
    written = [machine()]
    print(written[0], flush=True)
    kept = True
    for name in given.names or NAMES:
        report: Report = importlib.import_module(f"benchmarks.{name}").measure(options)
        written.append(f"`python -m benchmarks {name}`\n\n{report}\n")
        print(written[-1], flush=True)
        kept &= report.kept
        for file, plot in report.plots.items() if given.plots else ():
            (given.plots / f"{name}-{file}.svg").write_text(plot.svg())
    if given.markdown:
        given.markdown.write_text("\n".join(written))
    return 0 if kept else 1


def machine() -> str:
    """Describe the machine, and how busy it is."""
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    load = os.getloadavg()[0]
    return f"Python {python}, SQLite {sqlite}, {os.cpu_count()} cores, load {load:.1f} before.\n"


if __name__ == "__main__":
    sys.exit(main())
