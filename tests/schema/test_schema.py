"""The schema that the migrations make is the one that `registry.schema` describes, and it holds.

What a shell shows, what the statements are built from and what the rows come back as are three
descriptions of one thing; here they are compared. The CHECKs are tried with rows that no state of
an artifact allows, and the triggers with all that changes what is prepared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import TableClause

from registry import Registry, schema
from registry.opening.migrate import HEAD
from registry.schema.ddl import DDL
from registry.sql import queries
from registry.sql.core import tables

PATH = "1" * 128 + ".pvf"
IDENTITY = {"code_hash": "a" * 64, "prep_hash": "b" * 64}
CLAIM = {"path": PATH, "token": "t", "host_id": "h", "deadline": 2, "claimed_at": 1}
FILE = {"path": PATH, "size": 3, "checksum": "c", "last_time_needed": 1}
FAILURE = {"error": "it went wrong", "last_time_failed": 1, "num_failures": 1, "retry_at": 1}
GOOD: dict[str, dict[str, Any]] = {
    "preparing": {**IDENTITY, "state": "preparing", **CLAIM},
    "preparing again": {**IDENTITY, "state": "preparing", **CLAIM, **FAILURE},
    "prepared": {**IDENTITY, "state": "prepared", **FILE},
    "failed": {**IDENTITY, "state": "failed", **FAILURE},
    "failed for ever": {**IDENTITY, "state": "failed", **FAILURE, "retry_at": None},
    "failed after a need": {**IDENTITY, "state": "failed", **FAILURE, "last_time_needed": 1},
}
# What is wrong, in which row, and the change that makes it so.
BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("no code hash", "prepared", {"code_hash": None}),
    ("a short code hash", "prepared", {"code_hash": "a" * 63}),
    ("a long code hash", "prepared", {"code_hash": "a" * 65}),
    ("an upper-case code hash", "prepared", {"code_hash": "A" * 64}),
    ("a code hash of other letters", "prepared", {"code_hash": "g" * 64}),
    ("no prep hash", "prepared", {"prep_hash": None}),
    ("a short prep hash", "prepared", {"prep_hash": "b" * 63}),
    ("an upper-case prep hash", "prepared", {"prep_hash": "B" * 64}),
    ("no state", "prepared", {"state": None}),
    ("a state unheard of", "prepared", {"state": "pruned"}),
    ("a state in upper case", "prepared", {"state": "PREPARED"}),
    ("a path upwards", "prepared", {"path": "../" + "1" * 125 + ".pvf"}),
    ("an absolute path", "prepared", {"path": "/" + "1" * 127 + ".pvf"}),
    ("a path of another kind", "prepared", {"path": "1" * 128 + ".tmp"}),
    ("a path too short", "prepared", {"path": "1" * 127 + ".pvf"}),
    ("a path too long", "prepared", {"path": "1" * 129 + ".pvf"}),
    ("a path in upper case", "prepared", {"path": "A" * 128 + ".pvf"}),
    ("an empty path", "prepared", {"path": ""}),
    ("a hostile path while preparing", "preparing", {"path": "../../etc/passwd"}),
    ("a negative size", "prepared", {"size": -1}),
    ("a size that is text", "prepared", {"size": "large"}),
    ("a time that is text", "prepared", {"last_time_needed": "2026-01-01"}),
    ("a hash that is bytes", "prepared", {"code_hash": b"a" * 64}),
    ("a negative count of failures", "failed", {"num_failures": -1}),
    ("no count of failures", "failed", {"num_failures": None}),
    ("an error of more than 64 KiB", "failed", {"error": "x" * 65537}),
    ("a label of more than 1 KiB", "prepared", {"label": "x" * 1025}),
    ("an error without its time", "failed", {"last_time_failed": None}),
    ("the time of a failure without its error", "preparing", {"last_time_failed": 1}),
    ("preparing without a path", "preparing", {"path": None}),
    ("preparing without a token", "preparing", {"token": None}),
    ("preparing without a host", "preparing", {"host_id": None}),
    ("preparing without a deadline", "preparing", {"deadline": None}),
    ("preparing with a size", "preparing", {"size": 3}),
    ("preparing with a checksum", "preparing", {"checksum": "c"}),
    ("prepared without a path", "prepared", {"path": None}),
    ("prepared without a size", "prepared", {"size": None}),
    ("prepared without a checksum", "prepared", {"checksum": None}),
    ("prepared but never needed", "prepared", {"last_time_needed": None}),
    ("prepared with a token", "prepared", {"token": "t"}),
    ("prepared with a host", "prepared", {"host_id": "h"}),
    ("prepared with a deadline", "prepared", {"deadline": 2}),
    ("prepared with failures", "prepared", {"num_failures": 1}),
    ("prepared with a failure", "prepared", {"error": "x", "last_time_failed": 1}),
    ("prepared with the kind of a failure", "prepared", {"error_kind": "x"}),
    ("prepared with a time of retry", "prepared", {"retry_at": 1}),
    ("failed without an error", "failed", {"error": None, "last_time_failed": None}),
    ("failed with a path", "failed", {"path": PATH}),
    ("failed with a size", "failed", {"size": 3}),
    ("failed with a checksum", "failed", {"checksum": "c"}),
    ("failed with a token", "failed", {"token": "t"}),
    ("failed with a host", "failed", {"host_id": "h"}),
    ("failed with a deadline", "failed", {"deadline": 2}),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as opening makes it."""
    cache = tmp_path_factory.mktemp("schema") / "cache"
    Registry(cache).close()
    return cache / "registry.db"


@pytest.fixture
def database(made: Path) -> Iterator[sqlite3.Connection]:
    """A look at that database; what a test writes is not kept."""
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield connection
        connection.execute("ROLLBACK")


def insert(database: sqlite3.Connection, columns: dict[str, Any]) -> None:
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    database.execute(f"INSERT INTO artifact ({names}) VALUES ({values})", columns)


# --- one schema, described three times ----------------------------------------------------------


def test_the_migrations_make_what_the_schema_says_letter_by_letter(
    database: sqlite3.Connection,
) -> None:
    made = database.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    ).fetchall()
    assert sorted(sql for (sql,) in made) == sorted(DDL)


def test_every_table_of_ours_is_strict(database: sqlite3.Connection) -> None:
    listed = database.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    ).fetchall()
    ours = {name: strict for name, strict in listed if not name.startswith("sqlite_")}
    assert ours.pop("alembic_version") == 0
    assert ours == dict.fromkeys(
        (
            *("artifact", "cache", "counter", "failure_usage", "history", "host", "host_history"),
            *("maintenance", "setting", "usage"),
        ),
        1,
    )


@pytest.mark.parametrize(
    "table", [value for value in vars(tables).values() if isinstance(value, TableClause)], ids=str
)
def test_statements_are_built_from_the_columns_that_are_there(
    database: sqlite3.Connection, table: TableClause
) -> None:
    columns = database.execute(f"SELECT name FROM pragma_table_info('{table.name}')").fetchall()
    assert [column.name for column in table.c] == [name for (name,) in columns]


def test_a_row_has_the_columns_of_the_table_in_their_order(database: sqlite3.Connection) -> None:
    columns = database.execute("SELECT name FROM pragma_table_info('artifact')").fetchall()
    of_the_holder = ("pid", "hostname")
    assert queries.Row._fields == (*(name for (name,) in columns), *of_the_holder)


def test_the_file_itself_says_what_it_is(made: Path, database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA application_id").fetchone() == (0x70766652,)
    assert database.execute("PRAGMA user_version").fetchone() == (int(HEAD),)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert schema.APPLICATION_ID.to_bytes(4, "big") == b"pvfR"


def test_the_schema_explains_itself(database: sqlite3.Connection) -> None:
    """`.schema` in a plain shell shows a comment in each table and view to be looked at."""
    tables = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'alembic%'"
    ).fetchall()
    assert [name for name, sql in tables if "--" not in sql] == []


# --- the CHECKs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", GOOD.values(), ids=GOOD)
def test_a_row_that_its_state_allows_is_stored(
    database: sqlite3.Connection, row: dict[str, Any]
) -> None:
    insert(database, row)
    assert database.execute("SELECT count(*) FROM artifact").fetchone() == (1,)


@pytest.mark.parametrize(("state", "change"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_row_that_no_state_allows_is_refused(
    database: sqlite3.Connection, state: str, change: dict[str, Any]
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(database, GOOD[state] | change)
    assert database.execute("SELECT count(*) FROM artifact").fetchone() == (0,)


def test_an_id_has_one_row(database: sqlite3.Connection) -> None:
    insert(database, GOOD["prepared"])
    with pytest.raises(sqlite3.IntegrityError):
        insert(database, GOOD["failed"])


# --- what the triggers keep ---------------------------------------------------------------------


def usage(database: sqlite3.Connection) -> tuple[int, int]:
    ((count, size),) = database.execute("SELECT prepared_count, prepared_bytes FROM usage")
    return count, size


def test_usage_counts_the_prepared_and_nothing_else(database: sqlite3.Connection) -> None:
    insert(database, GOOD["preparing"])
    insert(database, GOOD["failed"] | {"code_hash": "c" * 64})
    assert usage(database) == (0, 0)
    insert(database, GOOD["prepared"] | {"code_hash": "d" * 64, "size": 5})
    insert(database, GOOD["prepared"] | {"code_hash": "e" * 64, "size": 7})
    assert usage(database) == (2, 12)


@pytest.mark.parametrize(
    ("change", "then"),
    [
        ("DELETE FROM artifact WHERE code_hash = :d", (1, 7)),
        ("DELETE FROM artifact", (0, 0)),
        ("UPDATE artifact SET size = 100 WHERE code_hash = :d", (2, 107)),
        ("UPDATE artifact SET size = size + 1", (2, 14)),
        ("UPDATE artifact SET last_time_needed = 9", (2, 12)),
        (
            (
                "UPDATE artifact SET state = 'failed', path = NULL, size = NULL, checksum = NULL,"
                " error = 'x', last_time_failed = 1 WHERE code_hash = :d"
            ),
            (1, 7),
        ),
        (
            (
                "UPDATE artifact SET state = 'preparing', size = NULL, checksum = NULL,"
                " token = 't', host_id = 'h', deadline = 1"
            ),
            (0, 0),
        ),
    ],
    ids=["one goes", "all go", "one grows", "all grow", "a need", "one fails", "all are claimed"],
)
def test_usage_follows_every_change(
    database: sqlite3.Connection, change: str, then: tuple[int, int]
) -> None:
    insert(database, GOOD["prepared"] | {"code_hash": "d" * 64, "size": 5})
    insert(database, GOOD["prepared"] | {"code_hash": "e" * 64, "size": 7})
    database.execute(change, {"d": "d" * 64} if ":d" in change else {})
    assert usage(database) == then


def test_usage_counts_what_is_published(database: sqlite3.Connection) -> None:
    insert(database, GOOD["preparing"])
    database.execute(
        "UPDATE artifact SET state = 'prepared', size = 9, checksum = 'c', last_time_needed = 1,"
        " token = NULL, host_id = NULL, deadline = NULL"
    )
    assert usage(database) == (1, 9)
