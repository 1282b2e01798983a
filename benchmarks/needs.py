"""Do the needs of many processes stand in each other's way?

1, 2, 4 and 8 processes need 10,000 hot artifacts, each in an order of its own, for as long as the
clock runs. Beside them diskcache, by default and as an LRU; JAX's bounded cache of compiled
programs; and a bare guarded UPDATE of the row for each need, which is what the registry would do
if it wrote each use. The contestants take turns; the processes of the others wait meanwhile.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TypeAlias

from processes.crew import Child, Crew, Line
from processes.traces import code_id

from benchmarks import rivals
from benchmarks.report import Options, Report, crew, new_cache
from benchmarks.stock import DATA, fill
from registry import Registry

KEYS = 10_000
PROCESSES = (1, 2, 4, 8)
FASTER, SLOWEST_SHARE = 10, 0.6
UPDATE = """
UPDATE artifact SET last_time_needed = ?
WHERE code_hash = ? AND prep_hash = ? AND state = 'prepared' RETURNING path"""
Need: TypeAlias = Callable[[int], object]
Rates: TypeAlias = dict[tuple[str, int], list[list[float]]]  # a round, of each process


def by_registry(folder: Path) -> Need:
    registry, ids = Registry(folder), [code_id(key) for key in range(KEYS)]
    return lambda key: registry.need(ids[key])


def by_update(folder: Path) -> Need:
    database = sqlite3.connect(folder / "registry.db", timeout=60, isolation_level=None)
    database.execute("PRAGMA synchronous = NORMAL")
    named = [(one.code_hash, one.prep_hash) for one in map(code_id, range(KEYS))]
    return lambda key: database.execute(UPDATE, (time.time_ns() // 1000, *named[key])).fetchall()


def by_diskcache(folder: Path) -> Need:
    cache = rivals.diskcache.Cache(str(folder))  # which remembers its policy
    get: Need = cache.get
    return get


def by_jax(folder: Path) -> Need:
    cache = rivals.jax_cache(folder)
    return lambda key: cache.get(str(key))


CONTESTANTS: dict[str, Callable[[Path], Need]] = {
    "registry": by_registry,
    "guarded UPDATE": by_update,
    "diskcache": by_diskcache,
    "diskcache, LRU": by_diskcache,
    "JAX's LRUCache": by_jax,
}


def stock(name: str, folder: Path) -> bool:
    """Fill a contestant's folder; False where the contestant is not installed."""
    if name in ("registry", "guarded UPDATE"):
        fill(folder, KEYS, files=name == "registry")
    elif name in rivals.POLICIES and rivals.diskcache:
        rivals.fill_diskcache(folder, rivals.POLICIES[name], range(KEYS))
    elif name == "JAX's LRUCache" and rivals.has_jax():
        cache = rivals.jax_cache(folder)
        for key in range(KEYS):
            (folder / f"{key}-cache").write_bytes(DATA)  # as `put` does, which looks at all of them
        return cache is not None
    else:
        return False
    return True


def needs(line: Line, name: str, folder: Path, number: int) -> None:
    """Need one after the other for so long as told, when told; how many a second."""
    need = CONTESTANTS[name](folder)
    order = list(range(KEYS))
    random.Random(number).shuffle(order)
    hundreds = cycle([order[start : start + 100] for start in range(0, KEYS, 100)])
    line.say("ready")
    while True:
        seconds = line.hear()
        began, count = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            for key in next(hundreds):
                assert need(key) is not None
            count += 100
        line.say(count / (time.monotonic() - began))


def run(children: list[Child], seconds: float) -> list[float]:
    """Let them loose together."""
    for child in children:
        child.tell(seconds)
    return [child.hear() for child in children]


def rates(options: Options, counts: tuple[int, ...]) -> Rates:
    """Needs a second of each process, in rounds of all contestants."""
    found: Rates = {}
    with ExitStack() as stack:
        started = stack.enter_context(crew())
        teams = {}
        for name in CONTESTANTS:
            folder = stack.enter_context(new_cache())
            if stock(name, folder):
                teams[name] = team(started, name, folder, counts[-1])
        for _ in range(options.rounds(5, 1)):
            for name, children in teams.items():
                for count in counts:
                    got = run(children[:count], 0.2 if options.quick else 1.0)
                    found.setdefault((name, count), []).append(got)
    return found


def team(started: Crew, name: str, folder: Path, size: int) -> list[Child]:
    """So many processes, each of which has needed everything once."""
    children = [started.start(needs, name, folder, number) for number in range(size)]
    for child in children:
        child.expect("ready")
        run([child], 1.5 if name == "registry" else 0.1)
    return children


def measure(options: Options) -> Report:
    """Measure all in turn."""
    counts = (1, 8) if options.quick else PROCESSES
    found = rates(options, counts)
    names = list(dict.fromkeys(name for name, _ in found))
    report = Report(
        f"How many needs a second of {KEYS:,} hot artifacts, by so many processes?",
        ["", *map(str, counts), f"slowest ÷ fastest of {counts[-1]}"],
    )
    for name in names:
        together = [median(map(sum, found[name, count])) for count in counts]
        fair = median(min(each) / max(each) for each in found[name, counts[-1]])
        report.rows.append([name, *(f"{rate:,.0f}" for rate in together), f"{fair:.2f}"])
    ours, *others = (median(map(sum, found[name, counts[-1]])) for name in names)
    fair = median(min(each) / max(each) for each in found["registry", counts[-1]])
    got = ours / max(others)
    report.promise(f"at least {FASTER} x the best of the others ({got:.1f} x)", got >= FASTER)
    words = f"the slowest process has {SLOWEST_SHARE} x of the fastest ({fair:.2f} x)"
    report.promise(words, fair >= SLOWEST_SHARE)
    report.notes += rivals.missing()
    return report
