"""A backup that is made while hosts write is a whole, consistent database of one moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Command

from processes.crew import Crew, Line
from processes.traces import code_id, connected
from registry import Registry, State


def writes(line: Line, cache: Path, first: int) -> None:
    """Publish, fail and remove until the parent has seen enough."""
    with Registry(cache) as registry:
        line.say("at work")
        number = first
        while True:
            registry.get_or_prepare(code_id(number), lambda: b"artifact")
            if number % 3 == 0:
                registry.remove(code_id(number))
            number += 4


@pytest.mark.parametrize("number", range(3))
def test_a_backup_among_writers_is_consistent(
    cache: Path, crew: Crew, tmp_path: Path, number: int
) -> None:
    command = Command(tmp_path)
    children = [crew.start(writes, cache, first) for first in range(4)]
    for child in children:
        child.expect("at work")
    copy = tmp_path / "backup" / "registry.db"
    copy.parent.mkdir(mode=0o700)
    answer = command("db", "backup", copy)
    assert answer.code == 0, answer.err
    for child in children:
        crew.bury(child)

    with connected(copy.parent) as connection:
        ask = connection.execute
        assert ask("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = ask("SELECT prepared_count, prepared_bytes FROM usage").fetchone()
        true = ask(
            "SELECT count(*), coalesce(sum(size), 0) FROM artifact WHERE state = 'prepared'"
        ).fetchone()
        assert kept == true
        assert ask("SELECT count(*) FROM host").fetchone()[0] >= 4
    with Registry(cache) as registry:  # and the hosts noticed nothing
        assert list(registry.artifacts(state=State.PREPARED))
