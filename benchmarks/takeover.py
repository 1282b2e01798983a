"""How soon after the death of the preparing process does a waiting one take over?"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from statistics import median

from processes.crew import Line, say_when_waiting
from processes.traces import code_id

from benchmarks.report import Options, Report, crew, ms, new_cache, percentile
from registry import Registry


def prepares_for_ever(line: Line, cache: Path, key: int) -> None:
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id(key), lambda: line.ask("preparing"))


def takes_over(line: Line, cache: Path, rounds: int) -> None:
    """Wait for the preparing process; report when the claim is ours."""
    with Registry(cache) as registry:

        def prepare() -> bytes:
            line.say(time.monotonic())
            return b"x"

        for key in range(rounds):
            line.hear()
            say_when_waiting(line)
            registry.get_or_prepare(code_id(key), prepare)


def measure(options: Options) -> Report:
    """Kill one process a round."""
    rounds, times = options.rounds(40, 10), []
    with new_cache() as cache, crew() as started:
        heir = started.start(takes_over, cache, rounds)
        for key in range(rounds):
            victim = started.start(prepares_for_ever, cache, key)
            victim.expect("preparing")
            heir.tell()
            heir.expect("waiting")
            time.sleep(random.uniform(0.06, 0.12))  # any moment between two looks
            died = time.monotonic()
            os.kill(victim.pid, signal.SIGKILL)
            times.append(heir.hear() - died)
            started.bury(victim)
    report = Report(
        "How soon after a `kill -9` does a waiting process prepare?",
        ["kills", "median ms", "p95 ms", "longest ms"],
    )
    report.rows.append(
        [rounds, ms(median(times)), ms(percentile(times, 0.95)), ms(max(times))],
    )
    report.promise(f"within 100 ms of the death ({ms(max(times))} ms)", max(times) < 0.1)
    return report
