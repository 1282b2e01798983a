"""What does a publish cost, compared with writing the file durably by hand?

By hand: write, fsync, rename, fsync of the folder. The registry does the same under a claim,
computes the checksum and writes the row.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path

from processes.traces import claimed, code_id

from benchmarks.contest import Contestant, Work, contest, ratio, spread
from benchmarks.report import Options, Report, new_cache
from registry import CleanupConfig, Registry

SIZES = {"1 KB": (1000, 20), "1 MB": (10**6, 5), "30 MB": (3 * 10**7, 1)}  # and how many a round
MOST = 1.5
NO_LIMIT = CleanupConfig(cache_limit=1 << 40)


def by_hand(folder: Path, data: bytes, times: int) -> Contestant:
    """What a careful program does without a registry."""
    folder.mkdir()
    names = os.open(folder, os.O_RDONLY)

    def store(name: str) -> None:
        fd = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400, dir_fd=names)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(f"{name}.tmp", name, src_dir_fd=names, dst_dir_fd=names)
        os.fsync(names)

    def ready(number: int) -> Work:
        for file in folder.iterdir():
            file.unlink()
        return lambda: [store(f"{number}-{key}") for key in range(times)]

    return ready


def by_registry(registry: Registry, data: bytes, times: int) -> Contestant:
    """A publish, the claim made before."""

    def ready(number: int) -> Work:
        registry.prune(cache_limit=0, min_stale_time=CleanupConfig().min_stale_time * 0)
        claims = [claimed(registry, code_id((number, key))) for key in range(times)]
        return lambda: [claim.publish(data) for claim in claims]

    return ready


def measure(options: Options) -> Report:
    """Measure each size."""
    report = Report("What does a publish cost?", ["", "by hand", "publish", "ratio", "of CPU"])
    for name, (size, times) in SIZES.items():
        data = secrets.token_bytes(size)
        with ExitStack() as stack:
            folder, cache = (stack.enter_context(new_cache()) for _ in range(2))
            registry = stack.enter_context(Registry(cache, cleanup=NO_LIMIT))
            named = {
                "by hand": by_hand(folder, data, times),
                "publish": by_registry(registry, data, times),
            }
            taken = contest(named, rounds=options.rounds(20, 2), times=times)
        hand, ours = taken["by hand"], taken["publish"]
        got = ratio(ours.clock, hand.clock)
        cpu = f"{spread(ours.cpu)}, {ratio(ours.cpu, hand.cpu):.2f} x"
        report.rows.append([name, spread(hand.clock), spread(ours.clock), f"{got:.2f} x", cpu])
        report.promise(f"{name}: at most {MOST} x by hand ({got:.2f} x)", got <= MOST)
    return report
