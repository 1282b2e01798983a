"""How soon is a waiting process told, and what does waiting cost?

One process prepares, another waits for it, long enough for its polling to have slowed down.
`CLOCK_MONOTONIC` is the same for all processes of a machine, so they can compare its times.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from processes.crew import Line, say_when_waiting
from processes.traces import claimed, code_id

from benchmarks.report import Options, Report, crew, ms, new_cache, percentile
from registry import Artifact, Registry

LATENCY_MS, LATENCY_P95_MS, CPU_SHARE = 10, 6, 0.03


def never() -> bytes:
    raise AssertionError("somebody else prepares this")


def waits(line: Line, cache: Path, rounds: int) -> None:
    """Wait for one artifact after the other; say when each was there."""
    with Registry(cache) as registry:
        for number in range(rounds):
            say_when_waiting(line)
            registry.get_or_prepare(code_id(number), never)
            line.say(time.monotonic())


def waits_long(line: Line, cache: Path, threads: int) -> tuple[float, float]:
    """Wait in so many threads of one handle: seconds of CPU and of the clock."""
    say_when_waiting(line, threads)
    with Registry(cache) as registry, ThreadPoolExecutor(threads) as pool:

        def wait() -> Artifact:
            return registry.get_or_prepare(code_id("long"), never)

        running = [pool.submit(wait) for _ in range(threads)]
        line.hear()
        cpu, clock = time.process_time(), time.monotonic()
        line.hear()
        spent = time.process_time() - cpu, time.monotonic() - clock
        line.say("measured")
        for one in running:
            one.result()
    return spent


def latencies(cache: Path, rounds: int) -> tuple[list[float], list[float]]:
    """How long after publish was called, and after it returned, the other one knew."""
    since_call, since_return = [], []
    with crew() as started, Registry(cache) as registry:
        claims = [claimed(registry, code_id(number)) for number in range(rounds)]
        child = started.start(waits, cache, rounds)
        for claim in claims:
            child.expect("waiting")
            time.sleep(random.uniform(0.03, 0.06))
            called = time.monotonic()
            claim.publish(b"x")
            returned = time.monotonic()
            known = child.hear()
            since_call.append(known - called)
            since_return.append(max(0.0, known - returned))
    return since_call, since_return


def cpu_share(cache: Path, threads: int, seconds: float) -> float:
    """Which share of a core so many waiting threads take."""
    with crew() as started, Registry(cache) as registry:
        claim = claimed(registry, code_id("long"))
        child = started.start(waits_long, cache, threads)
        child.expect("waiting")
        time.sleep(0.5)
        child.tell()
        time.sleep(seconds)
        child.tell()
        child.expect("measured")
        claim.publish(b"x")
        cpu, clock = child.hear()
    return float(cpu / clock)


def measure(options: Options) -> Report:
    """Measure latencies, then costs."""
    report = Report(
        "How soon does a waiting process know of a publish?",
        ["since", "median ms", "p95 ms", "max"],
    )
    with new_cache() as cache:
        since_call, since_return = latencies(cache, options.rounds(300, 60))
    for name, times in (("publish was called", since_call), ("publish returned", since_return)):
        row = [ms(median(times)), ms(percentile(times, 0.95)), ms(max(times))]
        report.rows.append([name, *row])
    half, most = median(since_return), percentile(since_return, 0.95)
    report.promise(f"median under {LATENCY_MS} ms ({ms(half)} ms)", half * 1000 < LATENCY_MS)
    report.promise(f"p95 under {LATENCY_P95_MS} ms ({ms(most)} ms)", most * 1000 <= LATENCY_P95_MS)
    for threads in (1, 100):
        with new_cache() as cache:
            share = cpu_share(cache, threads, options.rounds(8, 3))
        words = f"{threads} waiting thread(s) cost less than 3 % of a core ({100 * share:.1f} %)"
        report.promise(words, share < CPU_SHARE)
    return report
