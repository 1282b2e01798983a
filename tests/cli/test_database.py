"""`db`: where the database is and which schema it has; and a cache that cannot be used."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.command import Command, Run

from registry.migrate import HEAD
from registry.schema import APPLICATION_ID


def test_looking_at_the_database_does_not_make_one(command: Command, run: Run) -> None:
    assert run("db", "path").out == f"{command.cache / 'registry.db'}\n"
    assert run("db", "current", "--json").document == {"revision": None, "head": HEAD}
    assert not command.cache.exists()


def test_upgrading_makes_the_database_and_then_changes_nothing(run: Run) -> None:
    first = run("db", "upgrade", "--json")
    assert first.document == {"before": None, "revision": HEAD}
    again = run("db", "upgrade", "--json")
    assert again.document == {"before": HEAD, "revision": HEAD}
    assert run("db", "current").out == f"{HEAD} (the newest)\n"


def test_the_path_is_for_the_sqlite3_shell(command: Command) -> None:
    command("db", "upgrade")
    with closing(sqlite3.connect(command("db", "path").out.rstrip("\n"))) as connection:
        assert connection.execute("SELECT count(*) FROM artifact").fetchone() == (0,)


def _write(database: Path, content: bytes) -> None:
    database.parent.mkdir(mode=0o700)
    database.write_bytes(content)
    database.chmod(0o600)


def _of_another_application(database: Path) -> None:
    _write(database, b"")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("PRAGMA application_id = 7; CREATE TABLE theirs (x);")


def _from_the_future(database: Path) -> None:
    _write(database, b"")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            f"PRAGMA application_id = {APPLICATION_ID};"
            "CREATE TABLE alembic_version (version_num TEXT);"
            "INSERT INTO alembic_version VALUES ('9999');"
        )


def _open_to_all(database: Path) -> None:
    database.parent.mkdir()
    database.parent.chmod(0o777)


def _a_file(database: Path) -> None:
    database.parent.write_text("not a directory")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_a_file, "CacheDirectoryRefused"),
        (_open_to_all, "CacheDirectoryRefused"),
        (_of_another_application, "NotARegistry"),
        (_from_the_future, "SchemaTooNew"),
    ],
)
def test_a_cache_that_cannot_be_used_has_an_exit_code_of_its_own(
    command: Command, run: Run, spoil: Callable[[Path], None], error: str
) -> None:
    spoil(command.cache / "registry.db")
    answer = run("ls", "--json")
    assert (answer.code, answer.out, answer.error["type"]) == (3, "", error)
    people = run("ls")
    assert people.code == 3
    assert people.err == f"error: {answer.error['message']}\n"


def test_a_database_that_is_none_is_no_revision(command: Command, run: Run) -> None:
    _write(command.cache / "registry.db", os.urandom(8192))
    answer = run("db", "current", "--json")
    assert (answer.code, answer.error["type"]) == (3, "DatabaseDamaged")
