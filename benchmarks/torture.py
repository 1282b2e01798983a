"""Is the cache whole after its processes were killed and stopped in a loop?"""

from __future__ import annotations

import time

from processes.torture import Tally, assert_whole, torture

from benchmarks.report import Options, Report, crew, new_cache

PROCESSES, KEYS = 10, 60


def measure(options: Options) -> Report:
    """Kill and stop for a minute, or `--seconds`, then look; anything wrong is raised."""
    seconds = options.seconds or options.rounds(60, 8)
    until = time.monotonic() + seconds

    def enough(_: Tally) -> bool:
        return time.monotonic() >= until

    with new_cache() as cache:
        with crew() as started:
            tally = torture(started, cache, enough=enough, processes=PROCESSES, keys=KEYS)
        prepared = assert_whole(cache, KEYS)
    report = Report(
        f"Is the cache whole after {seconds:.0f} s of killing, {PROCESSES} processes, {KEYS} keys?",
        ["kills", "stops", "steps", "transitions", "prepared after", "largest -wal MB"],
    )
    wal = f"{tally.longest_wal / 1e6:.2f}"
    done = [tally.kills, tally.stops, tally.steps, tally.transitions]
    report.rows.append([*done, prepared, wal])
    report.promise("each transition is a legal move", True)
    report.promise("check is clean: no preparing row, no dead host, no orphan lock", True)
    report.promise("every artifact holds its own bytes, at every read", True)
    report.promise("no file without a row, no row without a file", True)
    report.promise("-wal under 8 MB", tally.longest_wal < 8 * 1024**2)
    return report
