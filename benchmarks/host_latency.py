"""Do the preparations of a host hold up its executions?

Clients execute a prepared module, one request after the other, and each is timed: in a quiet host,
and while a heads-up of 50 unknown modules is being prepared. The two take turns. Finally, 100
requests for one new module come at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.report import Options, Report, ms, new_cache, percentile
from registry import AsyncRegistry
from registry.host import Host

SOON = 50
AT_ONCE = 100
MOST = 2.0
# About 20 ms of execution, and 60 ms of compilation for each of the fresh ones.
PRIMES = (Path(__file__).parent.parent / "examples" / "primes.wat").read_bytes()
REQUEST = {"invoke": "count_primes", "args": [100_000]}
FUNCTIONS = 120
LINES = 25

_fresh = count()


def fresh_module() -> bytes:
    """Write a new module that takes a while to compile."""
    salt = next(_fresh)
    line = "(local.set $n (i64.xor (i64.mul (local.get $n) (i64.const {})) (i64.const {})))"
    functions = [
        f'(func $f{number} (export "f{number}") (param $n i64) (result i64)'
        + "".join(line.format(number * LINES + step, salt) for step in range(LINES))
        + "(local.get $n))"
        for number in range(FUNCTIONS)
    ]
    return f"(module {''.join(functions)})".encode()


async def execute_until(host: Host, enough: Callable[[int], bool]) -> list[float]:
    """Execute again and again; how long each took."""
    times: list[float] = []
    while not enough(len(times)):
        began = time.monotonic()
        await host.execute(PRIMES, {}, REQUEST)
        times.append(time.monotonic() - began)
    return times


async def quiet(host: Host, clients: int, each: int) -> list[float]:
    """Only execute, so many times each client."""
    return await _together(host, clients, lambda done: done >= each)


async def beside_a_heads_up(host: Host, clients: int) -> list[float]:
    """Execute for as long as a heads-up keeps the preparing worker busy."""
    codes = [fresh_module() for _ in range(SOON)]
    await host.heads_up((code, {}) for code in codes)
    all_prepared = asyncio.gather(*(host.precheck(code) for code in codes))
    times = await _together(host, clients, lambda _: all_prepared.done())
    await all_prepared
    return times


async def at_once(host: Host) -> float:
    """Execute one fresh module in many tasks; how long until the last is answered."""
    code = fresh_module()
    began = time.monotonic()
    request = {"invoke": "f0", "args": [1]}
    await asyncio.gather(*(host.execute(code, {}, request) for _ in range(AT_ONCE)))
    return time.monotonic() - began


async def _together(host: Host, clients: int, enough: Callable[[int], bool]) -> list[float]:
    running = (execute_until(host, enough) for _ in range(clients))
    return [seconds for times in await asyncio.gather(*running) for seconds in times]


async def _measure(cache: Path, report: Report, rounds: int) -> None:
    async with AsyncRegistry(cache) as registry, Host(registry, "registry.wasm") as host:
        await host.precheck(fresh_module())
        await host.execute(PRIMES, {}, REQUEST)
        for clients in (1, 2):
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(rounds):
                alone += await quiet(host, clients, SOON)
                beside += await beside_a_heads_up(host, clients)
            _tell(report, clients, alone, beside)
        before = (await registry.stats()).prepared_count
        seconds = await at_once(host)
        made = (await registry.stats()).prepared_count - before
    report.notes.append(
        f"{AT_ONCE} requests for one fresh module: all answered in {ms(seconds)} ms"
    )
    report.promise(f"of which {made} was a preparation", made == 1)


def _tell(report: Report, clients: int, alone: list[float], beside: list[float]) -> None:
    for what, times in ("quiet", alone), ("beside a heads-up", beside):
        p95 = percentile(times, 0.95)
        report.rows.append([clients, what, len(times), ms(median(times)), ms(p95), ms(max(times))])
    ratio = percentile(beside, 0.95) / percentile(alone, 0.95)
    words = f"{clients} client(s): p95 beside a heads-up within {MOST:g} x ({ratio:.2f} x)"
    report.promise(words, ratio <= MOST)


def measure(options: Options) -> Report:
    """Measure executions with and without a heads-up, in turns."""
    report = Report(
        f"Does a heads-up of {SOON} modules hold up the executions of others?",
        ["clients", "host", "executions", "median ms", "p95 ms", "max ms"],
    )
    with new_cache() as cache:
        asyncio.run(_measure(cache, report, options.rounds(5, 1)))
    return report
