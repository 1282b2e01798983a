"""`python -m benchmarks [NAME ...] [--quick] [--seconds N]`: measure, and print Markdown tables."""

from __future__ import annotations

import argparse
import importlib
import platform
import sqlite3
import sys

from benchmarks.report import Options, Report

NAMES = (
    "claims",
    "waiting",
    "takeover",
    "opening",
    "pruning",
    "journal_cost",
    "wal",
    "async_latency",
    "host_latency",
    "torture",
)


def main() -> int:
    """Run what is named, all by default; 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("--seconds", type=float, help="how long to torture, or to write")
    given = parser.parse_args()
    for name in given.names:
        if name not in NAMES:
            parser.error(f"there is no measurement {name!r}")
    options = Options(given.quick, given.seconds)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}\n")
    kept = True
    for name in given.names or NAMES:
        report: Report = importlib.import_module(f"benchmarks.{name}").measure(options)
        print(report, "\n", flush=True)
        kept &= report.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
