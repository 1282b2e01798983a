"""Do the needs of many processes slow each other down?

1, 2, 4 and 8 processes need 10,000 hot artifacts for a fixed time, each in its own order. The
others: diskcache, by default and as an LRU; JAX's bounded cache of compiled programs; and a bare
guarded UPDATE of the row for each need, which is what the registry would do if it wrote each use.
The contestants take turns; the processes of the others wait meanwhile.

The registry runs for a while before it is timed: it writes the last uses of so many artifacts
within ten seconds, once for all processes, and after a pause it starts with all of them. It has
also read each file once before, for the checksum.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
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

PROCESSES = (1, 2, 4, 8)
FASTER, SLOWEST_SHARE = 10, 0.6
WARMING_UP = 4
# diskcache by default records no use at all: it evicts first what was stored first.
NOTE_EACH_USE = ("guarded UPDATE", "diskcache, LRU", "JAX's LRUCache")
UPDATE = """
UPDATE artifact SET last_time_needed = ?
WHERE code_hash = ? AND prep_hash = ? AND state = 'prepared' RETURNING path"""
Need: TypeAlias = Callable[[int], object]
Rates: TypeAlias = dict[tuple[str, int], list[list[float]]]  # a round, of each process


def by_registry(folder: Path, keys: int) -> Need:
    registry, ids = Registry(folder), [code_id(key) for key in range(keys)]
    return lambda key: registry.need(ids[key])


def by_update(folder: Path, keys: int) -> Need:
    database = sqlite3.connect(folder / "registry.db", timeout=60, isolation_level=None)
    database.execute("PRAGMA synchronous = NORMAL")
    named = [(one.code_hash, one.prep_hash) for one in map(code_id, range(keys))]
    return lambda key: database.execute(UPDATE, (time.time_ns() // 1000, *named[key])).fetchall()


def by_diskcache(folder: Path, _keys: int) -> Need:
    cache = rivals.diskcache.Cache(str(folder))  # which remembers its policy
    get: Need = cache.get
    return get


def by_jax(folder: Path, _keys: int) -> Need:
    cache = rivals.jax_cache(folder)
    return lambda key: cache.get(str(key))


CONTESTANTS: dict[str, Callable[[Path, int], Need]] = {
    "registry": by_registry,
    "guarded UPDATE": by_update,
    "diskcache": by_diskcache,
    "diskcache, LRU": by_diskcache,
    "JAX's LRUCache": by_jax,
}


def stock(name: str, folder: Path, keys: int) -> bool:
    """Fill a contestant's folder; False if the contestant is not installed."""
    if name in ("registry", "guarded UPDATE"):
        fill(folder, keys, files=name == "registry")
    elif name in rivals.POLICIES and rivals.diskcache:
        rivals.fill_diskcache(folder, rivals.POLICIES[name], range(keys))
    elif name == "JAX's LRUCache" and rivals.has_jax():
        folder.mkdir()
        for key in range(keys):
            (folder / f"{key}-cache").write_bytes(DATA)  # as `put` does, which looks at all of them
    else:
        return False
    return True


def needs(line: Line, name: str, folder: Path, keys: int) -> None:
    """Need one after the other for a given time; return the rate per second."""
    need = CONTESTANTS[name](folder, keys)
    order = random.sample(range(keys), keys)
    hundreds = cycle([order[start : start + 100] for start in range(0, keys, 100)])
    for key in order[: keys if name == "registry" else 0]:
        need(key)
    line.say("open")
    while True:
        seconds = line.hear()
        rate(need, hundreds, WARMING_UP * seconds if name == "registry" else 0)
        line.say(rate(need, hundreds, seconds))


def rate(need: Need, hundreds: Iterator[list[int]], seconds: float) -> float:
    """Measure the needs per second."""
    began, count = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        for key in next(hundreds):
            assert need(key) is not None
        count += 100
    return count / max(time.monotonic() - began, 1e-9)


def run(children: list[Child], seconds: float) -> list[float]:
    """Run them together."""
    for child in children:
        child.tell(seconds)
    return [child.hear() for child in children]


def rates(options: Options, counts: tuple[int, ...], keys: int) -> Rates:
    """Needs per second of each process, in rounds of all contestants."""
    found: Rates = {}
    with ExitStack() as stack:
        started = stack.enter_context(crew())
        teams = {}
        for name in CONTESTANTS:
            folder = stack.enter_context(new_cache())
            if stock(name, folder, keys):
                teams[name] = team(started, counts[-1], name, folder, keys)
        for _ in range(options.rounds(5, 1)):
            for name, children in teams.items():
                for count in counts:
                    got = run(children[:count], 0.2 if options.quick else 1.0)
                    found.setdefault((name, count), []).append(got)
    return found


def team(started: Crew, size: int, name: str, folder: Path, keys: int) -> list[Child]:
    """So many processes that have it open."""
    children = [started.start(needs, name, folder, keys) for _ in range(size)]
    for child in children:
        child.expect("open")
    return children


def measure(options: Options) -> Report:
    """Measure all in turn."""
    counts = (1, 8) if options.quick else PROCESSES
    keys = options.rounds(10_000, 500)
    found = rates(options, counts, keys)
    names = list(dict.fromkeys(name for name, _ in found))
    report = Report(
        f"How many needs a second of {keys:,} hot artifacts, by so many processes?",
        ["", *map(str, counts), f"slowest ÷ fastest of {counts[-1]}"],
    )
    for name in names:
        together = [median(map(sum, found[name, count])) for count in counts]
        fair = median(min(each) / max(each) for each in found[name, counts[-1]])
        report.rows.append([name, *(f"{rate:,.0f}" for rate in together), f"{fair:.2f}"])
    at_most = {name: median(map(sum, found[name, counts[-1]])) for name in names}
    got = at_most["registry"] / max(at_most[name] for name in names if name in NOTE_EACH_USE)
    report.promise(f"at least {FASTER} x the best that notes each use ({got:.1f} x)", got >= FASTER)
    fair = median(min(each) / max(each) for each in found["registry", counts[-1]])
    words = f"the slowest process has {SLOWEST_SHARE} x of the fastest ({fair:.2f} x)"
    report.promise(words, fair >= SLOWEST_SHARE)
    report.notes += rivals.missing()
    return report
