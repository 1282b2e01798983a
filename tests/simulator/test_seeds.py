"""Runs by chance: whatever users do and whatever goes wrong, no promise is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from registry.sql.transitions import Event

from .faults import Fault
from .length import LONG
from .schedule import MIXTURES, run

SEEDS = 20_000 if LONG else 60
EXPECTED = {
    *(f"move: {event}" for event in Event),
    *(f"fault: {fault}" for fault in Fault),
    *("crashes", "power cuts", "clock jumps", "interruptions", "files damaged"),
}


@pytest.mark.timeout(36_000 if LONG else 120)
def test_no_promise_is_broken_whatever_happens_and_everything_does() -> None:
    happened: Counter[str] = Counter()
    for mixture in MIXTURES:
        for seed in range(SEEDS):
            happened += run(seed, mixture).counts
    assert happened.keys() >= EXPECTED


def test_a_seed_replays_exactly() -> None:
    once, again = run(4711), run(4711)
    assert once.trace == again.trace
    assert once.digest != run(4712).digest


def test_a_seed_replays_exactly_in_another_process_by_its_command() -> None:
    traces = {replayed(hash_seed) for hash_seed in ("1", "2")}
    (trace,) = traces
    assert trace.splitlines()[:-1] == run(4711).trace


def replayed(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulator", "4711"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout
