"""Upgrades of what earlier revisions left behind: raced for, and cut short anywhere."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.frozen import FROZEN, PREPARED, SPEED, thawed

from processes.crew import Crew, Line
from processes.traces import assert_clean, query
from registry import ArtifactId, Registry
from registry.opening import cache as cache_module
from registry.opening import migrate
from registry.schema.ddl import DDL

OPENERS = 8


def assert_upgraded(cache: Path) -> None:
    """See that a cache has the newest schema, all that it held, and one identity."""
    with Registry(cache) as registry:
        for code, data in PREPARED.items():
            with registry.open_file(ArtifactId.of(code, SPEED)) as file:
                assert file.read() == data
    assert {artifact.id for artifact in assert_clean(cache)} >= {
        ArtifactId.of(code, SPEED) for code in PREPARED
    }
    assert query(cache, "SELECT version_num FROM alembic_version") == [(migrate.HEAD,)]
    assert query(cache, "SELECT uuid FROM cache") == [((cache / "cache.id").read_text().strip(),)]
    made = query(
        cache, "SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND name <> 'alembic_version'"
    )
    assert sorted(sql for (sql,) in made) == sorted(DDL)


# --- races --------------------------------------------------------------------------------------


def opens(line: Line, caches: list[Path]) -> list[tuple[str, str]]:
    """Open each cache at the same moment as the others do; which cache it said to be."""
    seen = []
    for cache in caches:
        line.ask("ready")
        with Registry(cache) as registry:
            assert registry.need(ArtifactId.of(b"prepared 0", SPEED)) is not None
            ((uuid,),) = query(cache, "SELECT uuid FROM cache")
            seen.append((uuid, (cache / "cache.id").read_text().strip()))
    return seen


def test_eight_processes_upgrade_what_each_revision_left_at_once(
    crew: Crew, tmp_path: Path
) -> None:
    caches = [thawed(rev, tmp_path / f"{rev}-{n}") for rev in FROZEN for n in range(3)]
    openers = [crew.start(opens, caches) for _ in range(OPENERS)]
    for _ in caches:
        for opener in openers:
            opener.expect("ready")
        for opener in openers:
            opener.tell()
    for seen in zip(caches, *(opener.hear() for opener in openers), strict=True):
        cache, *identities = seen
        assert len({uuid for pair in identities for uuid in pair}) == 1
        assert_upgraded(cache)


# --- crashes ------------------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is a place for that: a SIGKILL loses nothing there either."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as folder:
        yield Path(folder)


def killed_at(statement: int, work: Callable[[], Any]) -> bool:
    """Do work in a fork of this process that is killed before a statement; whether it was."""
    pid = os.fork()
    if pid == 0:
        try:
            _die_before(statement)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _die_before(statement: int) -> None:
    numbers = count()
    connect = migrate.connect

    def traced(path: str, **options: Any) -> sqlite3.Connection:
        connection = connect(path, **options)
        connection.set_trace_callback(die_in_time)
        return connection

    def die_in_time(_sql: str) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    migrate.connect = cache_module.connect = traced


def crashes(_line: Line, revision: str, place: Path) -> int:
    """Upgrade copies of a cache, each cut short one statement later than the one before.

    After each, the next one to open it finds all as it should be. Answers how many were cut.
    """
    frozen = thawed(revision, place / "frozen")
    for number in count():
        cache = shutil.copytree(frozen, place / "cache")
        killed = killed_at(number, lambda cache=cache: cache_module.open_cache(cache))
        if killed:
            revision_then = migrate.revision_of(str(cache / "registry.db"))
            assert revision_then in (revision, migrate.HEAD)  # all of it, or nothing
        assert_upgraded(cache)
        if not killed:
            return number
        shutil.rmtree(cache)
    raise AssertionError("unreachable")


@pytest.mark.timeout(240)
def test_an_upgrade_that_is_killed_at_any_statement_is_done_by_the_next_who_opens(
    crew: Crew, memory: Path
) -> None:
    cut = crew.start(crashes, FROZEN[0], memory).last_word()
    assert cut > 50  # statements from the first revision to the newest
