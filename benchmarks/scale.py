"""How do the verbs scale with the rows and with the processes?

Each verb in one process, in caches of 1,000 to 1,000,000 rows; then the hot needs and the claims of
new artifacts per second of 1 to 16 processes, in a cache of 10,000. And what concerns the whole
cache: its size on the disk, and the time to open, check, sweep and list it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from processes.crew import Line
from processes.traces import claimed, code_id

from benchmarks.contest import Contestant, Work, contest, spread
from benchmarks.plot import Plot
from benchmarks.report import Options, Report, crew, new_cache
from benchmarks.stock import fill
from registry import Registry
from registry.verbs import check

ROWS = (1_000, 10_000, 100_000, 1_000_000)
PROCESSES = (1, 2, 4, 8, 16)
TIMES = 20
HOT = code_id("hot")


def verbs(registry: Registry, rows: int) -> dict[str, tuple[Contestant, int]]:
    """Each verb, made ready for a round, and how often it is done in one."""
    fresh = count()

    def claims() -> list[object]:
        return [claimed(registry, code_id(("fresh", next(fresh)))) for _ in range(TIMES)]

    def again(work: Work) -> tuple[Contestant, int]:
        return (lambda _: lambda: [work() for _ in range(TIMES)]), TIMES

    def with_claims(act: Callable[[object], object]) -> tuple[Contestant, int]:
        def ready(_: int) -> Work:
            held = claims()
            return lambda: [act(claim) for claim in held]

        return ready, TIMES

    known, held = code_id(rows - 1), list[object]()
    registry.get_or_prepare(HOT, lambda: b"x" * 1000)
    return {
        "hot need": again(lambda: registry.need(HOT)),
        "get": again(lambda: registry.get(known)),
        "claim": ((lambda _: lambda: held.extend(claims())), TIMES),
        "publish": with_claims(lambda claim: claim.publish(b"x")),
        "fail": with_claims(lambda claim: claim.fail("no")),
        "stats": again(registry.stats),
        "list a page": (lambda _: lambda: next(iter(registry.artifacts())), 1),
        "remove": (lambda number: partial(registry.remove, code_id(number)), 1),
    }


def whole(registry: Registry, cache: Path) -> dict[str, Work]:
    """What walks the whole cache."""

    def opens() -> None:
        Registry(cache).close()

    return {
        "open and close": opens,
        "check": registry.check,
        "sweep": lambda: registry._drive(check.sweep(registry._handle)),
        "list all": lambda: sum(1 for _ in registry.artifacts()),
    }


# --- processes ----------------------------------------------------------------------------------


def works(line: Line, cache: Path, what: str, number: int) -> float:
    """Do one thing for a second at the signal; return how often."""
    with Registry(cache) as registry:
        registry.need(HOT)
        done, fresh = 0, count()
        seconds = line.ask("ready")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if what == "hot needs":
                registry.need(HOT)
            else:
                claimed(registry, code_id((number, next(fresh)))).release()
            done += 1
        return done / seconds


def together(cache: Path, what: str, number: int, seconds: float) -> float:
    """Operations per second of so many processes together."""
    with crew() as started:
        children = [started.start(works, cache, what, key) for key in range(number)]
        for child in children:
            child.expect("ready")
        for child in children:
            child.tell(seconds)
        return sum(child.hear() for child in children)


# --- the report ---------------------------------------------------------------------------------


def measure(options: Options) -> Report:
    """Measure by rows, then by processes."""
    sizes = ROWS[:2] if options.quick else ROWS
    report = Report("How does it scale?", ["", *(f"{size:,} rows" for size in sizes)])
    by_rows, bytes_a_row = zip(*(_at(size, options) for size in sizes), strict=True)
    for name in by_rows[0]:
        report.rows.append([name, *(spread(at[name]) for at in by_rows)])
    report.rows.append(["database", *(f"{one:.0f} bytes a row" for one in bytes_a_row)])
    lines = {
        name: [(size, median(at[name])) for size, at in zip(sizes, by_rows, strict=True)]
        for name in by_rows[0]
    }
    report.plots["by-rows"] = Plot("What a verb takes, by rows", "rows", lines, _seconds)
    _by_processes(report, options)
    return report


def _at(size: int, options: Options) -> tuple[dict[str, list[float]], float]:
    """Time each verb in a cache of that size, and measure the database's bytes per row."""
    with ExitStack() as stack:
        cache = stack.enter_context(new_cache())
        fill(cache, size, files=True)
        bytes_a_row = (cache / "registry.db").stat().st_size / size
        registry = stack.enter_context(Registry(cache))
        taken: dict[str, list[float]] = {}
        for name, (contestant, times) in verbs(registry, size).items():
            got = contest({name: contestant}, rounds=options.rounds(9, 2), times=times)
            taken[name] = got[name].clock
        for name, work in whole(registry, cache).items():
            taken[name] = [_once(work) for _ in range(3 if size < 10**6 else 1)]
    return taken, bytes_a_row


def _once(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _by_processes(report: Report, options: Options) -> None:
    numbers = PROCESSES[:2] if options.quick else PROCESSES
    lines = {}
    with new_cache() as cache:
        fill(cache, 10_000)
        with Registry(cache) as registry:
            registry.get_or_prepare(HOT, lambda: b"x")
        for what in ("hot needs", "claims and releases"):
            rates = [
                together(cache, what, number, 0.2 if options.quick else 1) for number in numbers
            ]
            lines[what] = list(zip(numbers, rates, strict=True))
            words = ", ".join(f"{number}: {rate:,.0f}" for number, rate in lines[what])
            report.notes.append(f"{what} a second, by so many processes: {words}.\n")
    title = "Operations per second of all processes"
    report.plots["by-processes"] = Plot(title, "processes", lines, lambda rate: f"{rate:,.0f}")


def _seconds(seconds: float) -> str:
    units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    scale, unit = next((one for one in units if seconds >= 0.999 * one[0]), (1e-9, "ns"))
    return f"{seconds / scale:.0f} {unit}"
