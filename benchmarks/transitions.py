"""What does a guarded transition cost, compared with the same SQL on a bare connection?

A verb reads before it writes, draws a token, checks who holds the claim, keeps the -wal file small
and builds the result. The control runs the same statements on plain sqlite3, which checkpoints by
itself, and handles the file by hand where the verb does. Each has its own cache; so has the async
handle, whose calls are awaited one after the other.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import xxhash
from processes.traces import code_id

from benchmarks.contest import Contestant, Taken, Work, contest, ratio, spread
from benchmarks.report import Options, Report, new_cache
from registry import ArtifactId, AsyncClaim, AsyncRegistry, Claim, CleanupConfig, Registry
from registry.sql.queries import READ, USAGE
from registry.sql.transitions import TRANSITIONS, Event

EVERY_NEED = CleanupConfig(min_stale_time=timedelta(0))  # then each need writes
SYNC_MOST, ASYNC_MOST = 1.3, 2.5
DATA = secrets.token_bytes(1000)
WHATS = ("claim", "publish 1 KB", "need that writes")


def ids(what: str, number: int, times: int) -> list[ArtifactId]:
    """So many new artifacts for that round."""
    return [code_id((what, number, key)) for key in range(times)]


@dataclass
class ByHand:
    """The same statements, in the same order, and the same steps with the file."""

    cache: Path
    times: int
    claims: dict[ArtifactId, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Registry(self.cache).close()
        self.database = sqlite3.connect(self.cache / "registry.db", isolation_level=None)
        self.database.execute("PRAGMA synchronous = NORMAL")
        self.folder = os.open(self.cache / "artifacts", os.O_RDONLY)
        self.known = self.published(code_id("known"))

    def run(self, sql: str, values: dict[str, Any]) -> list[Any]:
        return self.database.execute(sql, values).fetchall()

    def claim(self, id: ArtifactId) -> None:
        this = {"code": id.code_hash, "prep": id.prep_hash}
        self.run(READ.sql, this)
        self.claims[id] = this | {
            "my_path": f"{secrets.token_hex(64)}.pvf",
            "my_token": secrets.token_hex(16),
            "my_host": "0" * 32,
            "now": time.time_ns() // 1000,
            "prepare_timeout": None,
            "label": None,
            "anyway": False,
            "made_by": None,
        }
        assert self.run(TRANSITIONS[Event.CLAIM].sql, self.claims[id])

    def publish(self, id: ArtifactId) -> None:
        claim = self.claims.pop(id)
        self.run(READ.sql, claim)
        digest = self.store(claim["my_path"])
        done = {"size": len(DATA), "checksum": digest, "seconds": 0.1}
        assert self.run(TRANSITIONS[Event.PUBLISH].sql, claim | done)
        self.run(USAGE.sql, {})

    def store(self, name: str) -> str:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fd = os.open(f"{name}.tmp", flags, 0o400, dir_fd=self.folder)
        os.write(fd, DATA)
        os.fsync(fd)
        os.close(fd)
        os.rename(f"{name}.tmp", name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        os.fsync(self.folder)
        return xxhash.xxh3_128_hexdigest(DATA)

    def published(self, id: ArtifactId) -> dict[str, Any]:
        self.claim(id)
        seen = self.claims[id] | {"seen_path": self.claims[id]["my_path"]}
        self.publish(id)
        return seen

    def need(self) -> None:
        os.stat(self.known["seen_path"], dir_fd=self.folder)
        assert self.run(TRANSITIONS[Event.NEED].sql, self.known | {"now": time.time_ns() // 1000})

    def contestant(self, what: str) -> Contestant:
        def ready(number: int) -> Work:
            if what == "need that writes":
                return lambda: [self.need() for _ in range(self.times)]
            fresh = ids(what, number, self.times)
            if what == "claim":
                return lambda: [self.claim(one) for one in fresh]
            for one in fresh:
                self.claim(one)
            return lambda: [self.publish(one) for one in fresh]

        return ready


def through(registry: Registry, what: str, times: int) -> Contestant:
    """The verbs of the sync handle."""
    known = registry.get_or_prepare(code_id("known"), lambda: DATA).id

    def ready(number: int) -> Work:
        if what == "need that writes":
            return lambda: [registry.need(known) for _ in range(times)]
        fresh = ids(what, number, times)
        if what == "claim":
            return lambda: held.extend(map(registry.claim, fresh))
        claims = list(map(registry.claim, fresh))
        return lambda: [claim.publish(DATA) for claim in claims if isinstance(claim, Claim)]

    held: list[object] = []
    return ready


def awaited(runner: asyncio.Runner, registry: AsyncRegistry, what: str, times: int) -> Contestant:
    """The verbs of the async handle, one after the other."""

    async def all_of(calls: list[Callable[[], Awaitable[object]]]) -> list[Any]:
        return [await call() for call in calls]

    async def prepared() -> ArtifactId:
        return (await registry.get_or_prepare(code_id("known"), lambda: DATA)).id

    known = runner.run(prepared())
    held: list[object] = []

    def ready(number: int) -> Work:
        if what == "need that writes":
            return lambda: runner.run(all_of([lambda: registry.need(known)] * times))
        claiming = [partial(registry.claim, one) for one in ids(what, number, times)]
        if what == "claim":
            return lambda: held.extend(runner.run(all_of(claiming)))
        claims: list[AsyncClaim] = runner.run(all_of(claiming))
        return lambda: runner.run(all_of([partial(claim.publish, DATA) for claim in claims]))

    return ready


def compare(what: str, rounds: int, times: int) -> dict[str, Taken]:
    """Let all three do the same."""
    with ExitStack() as stack:
        bare, sync, aio = (stack.enter_context(new_cache()) for _ in range(3))
        registry = stack.enter_context(Registry(sync, cleanup=EVERY_NEED))
        runner = stack.enter_context(asyncio.Runner())
        handle = AsyncRegistry(aio, cleanup=EVERY_NEED)
        runner.run(handle.open())
        stack.callback(lambda: runner.run(handle.close()))
        contestants = {
            "by hand": ByHand(bare, times).contestant(what),
            "sync": through(registry, what, times),
            "async": awaited(runner, handle, what, times),
        }
        return contest(contestants, rounds=rounds, times=times)


def measure(options: Options) -> Report:
    """Measure each transition."""
    report = Report(
        "What does a guarded transition cost beside the same SQL by hand?",
        ["", "by hand", "sync", "async", "sync ÷ by hand", "async ÷ by hand", "of CPU"],
    )
    for what in WHATS:
        times = 50 if what == "publish 1 KB" else 500
        taken = compare(what, options.rounds(15, 2), times // 5 if options.quick else times)
        hand, sync, aio = taken["by hand"], taken["sync"], taken["async"]
        by_clock = ratio(sync.clock, hand.clock), ratio(aio.clock, hand.clock)
        by_cpu = ratio(sync.cpu, hand.cpu), ratio(aio.cpu, hand.cpu)
        shown = [spread(one.clock) for one in (hand, sync, aio)]
        ratios = [f"{by_clock[0]:.2f} x", f"{by_clock[1]:.2f} x"]
        report.rows.append([what, *shown, *ratios, f"{by_cpu[0]:.2f} x, {by_cpu[1]:.2f} x"])
        for how, most, got in zip(
            ("sync", "async"), (SYNC_MOST, ASYNC_MOST), by_clock, strict=True
        ):
            report.promise(f"{what}, {how}: at most {most} x ({got:.2f} x)", got <= most)
    return report
