"""What does a repeated need cost, compared with a `stat` of the file?

The same 1,000 artifacts in turn, through the sync handle and the async one; a `stat` of their
files; a SELECT of the row by its key in plain sqlite3; and diskcache, by default and as an LRU,
which records each use. diskcache returns the 1,000 bytes themselves.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import ExitStack, closing

from processes.traces import code_id

from benchmarks import rivals
from benchmarks.contest import Contestant, Taken, contest, hot, ratio, spread
from benchmarks.report import Options, Report, new_cache
from benchmarks.stock import fill
from registry import ArtifactId, AsyncRegistry, Registry

KEYS = 1000
SELECT = "SELECT path, size FROM artifact WHERE code_hash = ? AND prep_hash = ?"
AT_MOST = {"need": 1.5, "need, async": 1.5}
FASTER = {"diskcache": 3, "diskcache, LRU": 15}


def contestants(stack: ExitStack) -> dict[str, Contestant]:
    """All of them, each with the same artifacts."""
    cache = stack.enter_context(new_cache())
    fill(cache, KEYS, files=True)
    ids = [code_id(key) for key in range(KEYS)]
    registry = stack.enter_context(Registry(cache))
    runner = stack.enter_context(asyncio.Runner())
    aio = runner.run(AsyncRegistry(cache).open())
    stack.callback(lambda: runner.run(aio.close()))
    database = stack.enter_context(closing(sqlite3.connect(cache / "registry.db")))
    found = [registry.need(one) for one in ids]
    paths = [os.fspath(one.path) for one in found if one is not None and one.path is not None]
    assert len(paths) == KEYS
    keys = [(one.code_hash, one.prep_hash) for one in ids]
    named: dict[str, Contestant] = {
        "os.stat": lambda _: lambda: [os.stat(path) for path in paths],
        "need": lambda _: hot(lambda: [registry.need(one) for one in ids]),
        "need, async": lambda _: hot(lambda: runner.run(_needs(aio, ids))),
        "sqlite3 SELECT": lambda _: lambda: [database.execute(SELECT, k).fetchone() for k in keys],
    }
    return named | rivals.diskcaches(stack, keys)


async def _needs(registry: AsyncRegistry, ids: list[ArtifactId]) -> None:
    for one in ids:
        await registry.need(one)


def measure(options: Options) -> Report:
    """Measure all in turn."""
    with ExitStack() as stack:
        taken = contest(contestants(stack), rounds=options.rounds(60, 5), times=KEYS)
    report = Report(
        "What does a hot need cost?",
        ["", "once", "of CPU", "÷ os.stat"],
        [_row(one, taken[one], taken["os.stat"]) for one in taken],
    )
    for name, most in AT_MOST.items():
        got = ratio(taken[name].clock, taken["os.stat"].clock)
        report.promise(f"{name}: at most {most} x os.stat ({got:.2f} x)", got <= most)
    for name in FASTER.keys() & taken.keys():
        got = ratio(taken[name].clock, taken["need"].clock)
        words = f"at least {FASTER[name]} x as fast as {name} ({got:.1f} x)"
        report.promise(words, got >= FASTER[name])
    report.notes += rivals.missing()[: rivals.diskcache is None]
    return report


def _row(name: str, one: Taken, bare: Taken) -> list[str]:
    return [name, spread(one.clock), spread(one.cpu), f"{ratio(one.clock, bare.clock):.2f} x"]
