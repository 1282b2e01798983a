"""Replay a seed, run many, or walk through all states: `python -m tests.simulator --help`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping

from .cases import CASES, LONG_CASES
from .exhaustive import Case, walk
from .invariants import Violation
from .schedule import MIXTURES, run


def main() -> int:
    """Print the trace of a seed, or the figures of many, or of walks; 1 if a promise broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed, and print its trace")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of many")
    parser.add_argument("--to", type=int, default=1000, help="one past the last of many")
    parser.add_argument("--mixture", choices=MIXTURES, default="anything")
    parser.add_argument("--turns", type=int, default=300, help="how long a run is")
    parser.add_argument(
        "--walk", choices=("short", "long"), help="walk through all states of small cases"
    )
    asked = parser.parse_args()
    if asked.walk is not None:
        return _walk(CASES if asked.walk == "short" else LONG_CASES)
    if asked.seed is not None:
        return _replay(asked.seed, asked.mixture, asked.turns)
    return _many(range(asked.first, asked.to), asked.mixture, asked.turns)


def _replay(seed: int, mixture: str, turns: int) -> int:
    try:
        done = run(seed, mixture, turns)
    except Violation as violation:
        print(violation, *violation.__notes__, sep="\n")
        return 1
    print(*done.trace, f"{done.steps} effects, digest {done.digest}", sep="\n")
    return 0


def _walk(cases: Mapping[str, Case]) -> int:
    states = transitions = broken = 0
    print("| case | states | transitions | ends |", "| --- | --- | --- | --- |", sep="\n")
    for name, case in cases.items():
        try:
            seen = walk(case)
        except Violation as violation:
            broken += 1
            print(f"{name}: {violation}", *violation.__notes__, sep="\n")
        else:
            states, transitions = states + seen.states, transitions + seen.transitions
            figures = (seen.states, seen.transitions, seen.ends)
            print(f"| {name} |", " | ".join(f"{figure:,}" for figure in figures), "|", flush=True)
    print(f"\n{states:,} states, {transitions:,} transitions, violations: {broken}")
    return 1 if broken else 0


def _many(seeds: range, mixture: str, turns: int) -> int:
    began, figures, broken = time.monotonic(), Counter[str](), 0
    for seed in seeds:
        try:
            done = run(seed, mixture, turns)
        except Violation as violation:
            broken += 1
            print(f"seed {seed}: {violation}")
        else:
            figures += done.counts + Counter(effects=done.steps)
    for name, count in sorted(figures.items()):
        print(f"{count:>12,} {name}")
    print(f"{len(seeds):>12,} runs in {time.monotonic() - began:.0f} s, violations: {broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
