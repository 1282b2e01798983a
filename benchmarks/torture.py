"""Is the cache whole after its processes were killed in a loop?"""

from __future__ import annotations

import os

from processes.torture import content, torture
from processes.traces import assert_clean, code_id

from benchmarks.report import Options, Report, crew, new_cache


def measure(options: Options) -> Report:
    """Kill for a minute, then look; anything wrong is raised."""
    seconds = options.seconds or options.rounds(60, 8)
    with new_cache() as cache:
        with crew() as started:
            tally = torture(started, cache, seconds=seconds, processes=10, keys=60)
        artifacts = assert_clean(cache)
        right = {code_id(key): content(key) for key in range(60)}
        names = {artifact.path.name for artifact in artifacts if artifact.path}
        whole = all(a.path is not None and a.path.read_bytes() == right[a.id] for a in artifacts)
        exact = names == {*os.listdir(cache / "artifacts")}
    report = Report(
        f"Is the cache whole after {seconds:.0f} s of killing, 10 processes, 60 keys?",
        ["kills", "steps", "prepared after", "largest -wal MB"],
    )
    row = [tally.kills, tally.steps, len(artifacts), f"{tally.longest_wal / 1e6:.2f}"]
    report.rows.append(row)
    report.promise("check is clean: no preparing row, no dead host, no orphan lock", True)
    report.promise("every artifact holds its own bytes", whole)
    report.promise("no file without a row, no row without a file", exact)
    report.promise("-wal under 8 MB", tally.longest_wal < 8 * 1024**2)
    return report
