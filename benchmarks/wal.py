"""Does the -wal file stay small while many processes write and others read all the time?"""

from __future__ import annotations

import time
from pathlib import Path

from processes.crew import Line
from processes.torture import wal_size
from processes.traces import assert_clean, code_id

from benchmarks.report import Options, Report, crew, new_cache
from registry import Registry, RetryPolicy

AT_ONCE = RetryPolicy(max_retries=10**9)
BOUND = 8 * 1024**2


def writes(line: Line, cache: Path, key: int) -> None:
    """Claim and fail with long texts: many pages for little work."""
    with Registry(cache, retry=AT_ONCE) as registry:
        while True:
            for number in range(50):
                id_ = code_id((key, number))
                claim = registry.claim(id_, label="x" * 1000)
                claim.fail("y" * 20_000)
                registry.retry(id_)
            line.say(50)


def reads(line: Line, cache: Path) -> None:
    """List and count for ever: a read pins what the -wal file holds."""
    with Registry(cache) as registry:
        while True:
            line.say(sum(1 for _ in registry.artifacts()))


def measure(options: Options) -> Report:
    """Watch the file meanwhile."""
    seconds = options.seconds or options.rounds(30, 5)
    sizes, written = [], 0
    with new_cache() as cache, crew() as started:
        Registry(cache).close()
        writers = [started.start(writes, cache, key) for key in range(6)]
        readers = [started.start(reads, cache) for _ in range(2)]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sizes.append(wal_size(cache))
            for child in writers + readers:
                while child.pipe.poll():
                    written += child.hear() * (child in writers)
            time.sleep(0.001)
        for child in writers + readers:
            started.bury(child)
        assert_clean(cache)
    report = Report(
        f"How large is -wal in {seconds:.0f} s of 6 writers and 2 readers?",
        ["claims and failures", "largest MB", "median MB"],
    )
    sizes.sort()
    report.rows.append(
        [f"{written:,}", f"{sizes[-1] / 1e6:.2f}", f"{sizes[len(sizes) // 2] / 1e6:.2f}"]
    )
    report.promise("under 8 MB at any time", sizes[-1] < BOUND)
    return report
