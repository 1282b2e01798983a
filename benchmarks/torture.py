"""Is the cache intact after its processes were killed and stopped in a loop?"""

from __future__ import annotations

from processes.torture import Tally, torture

from benchmarks.report import Options, Report, crew, new_cache

PROCESSES, KEYS = 10, 60


def measure(options: Options) -> Report:
    """Kill and stop for a minute, or `--seconds`, then look; anything wrong is raised."""
    seconds = options.seconds or options.rounds(60, 8)

    def enough(tally: Tally) -> bool:
        return tally.seconds >= seconds

    with new_cache() as cache, crew() as started:
        tally = torture(started, cache, until=enough, processes=PROCESSES, keys=KEYS)
    report = Report(
        f"Is the cache whole after {seconds:.0f} s of killing, {PROCESSES} processes, {KEYS} keys?",
        ["kills", "stops", "verbs", "transitions", "needs", "prepared after", "largest -wal MB"],
    )
    done = [tally.kills, tally.stops, tally.verbs, tally.transitions, tally.moves["need"]]
    report.rows.append([*done, tally.prepared, f"{tally.longest_wal / 1e6:.2f}"])
    moves = (f"{name} {count:,}" for name, count in sorted(tally.moves.items()))
    report.notes.append(f"Every move was legal: {'; '.join(moves)}.\n")
    report.promise("each change of a row is a legal move; who is said to be dead is dead", True)
    report.promise("check is clean: no preparing row, no dead host, no orphan lock", True)
    report.promise("every artifact holds its own bytes, at every read", True)
    report.promise("no file without a row, no row without a file", True)
    report.promise("-wal under 8 MB", tally.longest_wal < 8 * 1024**2)
    return report
