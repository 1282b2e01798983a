"""Processes that record failures at once keep within the bounds, whichever of them is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.making import claimed
from support.tables import connected, rows

from processes.crew import Crew, Line
from registry import ArtifactId, Registry


def _fail_many(line: Line, cache: Path, number: int) -> None:
    """Fail sixty times; number 0 is killed on the way."""
    with Registry(cache) as registry:
        line.ask("ready")
        for each in range(60):
            artifact = ArtifactId.of(b"process %d, code %d" % (number, each))
            claimed(registry, artifact).fail("e" * 1000)
            if number == 0 and each == 30:
                os.kill(os.getpid(), signal.SIGKILL)


def test_many_processes_that_fail_at_once_keep_within_the_bounds(cache: Path) -> None:
    crew = Crew()
    with Registry(cache) as registry:
        registry.configure(failed_max_count=50, failed_max_bytes=30_000)
        children = [crew.start(_fail_many, cache, number) for number in range(3)]
        for child in children:
            child.expect("ready")
        for child in children:
            child.tell()
        assert [child.join() for child in children] == [-signal.SIGKILL, 0, 0]
        with connected(cache) as connection:
            said = connection.execute(
                "SELECT failed_count, failed_bytes FROM failure_usage"
            ).fetchone()
        errors = [row["error"] for row in rows(cache) if row["state"] == "failed"]
        assert (len(errors), sum(map(len, errors))) == (30, 30_000)
        assert tuple(said) == (30, 30_000)
        registry.check(repair=True)
        assert registry.check().ok
    crew.dismiss()
