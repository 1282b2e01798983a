"""What each revision does to the rows that were there, written by plain SQL as they were then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from registry.opening import migrate
from registry.schema.ddl import DDL

CODE, PREP, OTHER = "a" * 64, "b" * 64, "c" * 64
FILE = "1" * 128 + ".pvf"
# What a revision brought, in every state that its rows may have.
WRITTEN = {
    "0001": f"""
        INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, last_time_needed,
                              label, prepare_seconds, created_at)
          VALUES ('{CODE}', '{PREP}', 'prepared', '{FILE}', 3, 'c', 1, 'module.wasm', 0.5, 1);
        INSERT INTO artifact (code_hash, prep_hash, state, error, error_kind, last_time_failed,
                              num_failures, retry_at)
          VALUES ('{PREP}', '{CODE}', 'failed', 'it went wrong', 'link', 1, 1, 9);
        INSERT INTO artifact (code_hash, prep_hash, state, path, token, host_id, claimed_at,
                              deadline)
          VALUES ('{OTHER}', '{CODE}', 'preparing', '{FILE.replace("1", "2")}', 't', 'h', 5, 9);
        INSERT INTO setting VALUES ('cache_limit', 2), ('min_stale_time', NULL);
        """,
    "0002": """
        INSERT INTO host VALUES ('h', 7, 'here', 'python job.py', 1, '0.1.0');
        UPDATE maintenance SET last_done = 11;
        UPDATE cache SET uuid = 'this one';
        """,
    "0003": f"""
        INSERT INTO history (at, event, code_hash, prep_hash, host_id, size, last_time_needed)
          VALUES (3, 'pruned', '{CODE}', '{CODE}', 'h', 4, 2);
        INSERT INTO history (at, event, reason, code_hash, prep_hash, host_id, error)
          VALUES (4, 'reaped', 'host_died', '{CODE}', '{CODE}', 'h', 'gone');
        INSERT INTO host_history (id, pid, opened_at) VALUES ('long gone', 6, 0);
        """,
}
TABLES = {
    "0001": ("artifact", "usage", "setting"),
    "0002": ("host", "maintenance", "cache"),
    "0003": ("history", "counter", "host_history"),
    "0005": ("failure_usage",),
}
REVISIONS = [revision.id for revision in migrate.revisions()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty database."""
    path = tmp_path / "registry.db"
    path.touch()
    return path


@pytest.fixture
def written(path: Path, request: pytest.FixtureRequest) -> Path:
    """A database of a revision, with rows in all its tables."""
    for revision in REVISIONS[: REVISIONS.index(request.param) + 1]:
        migrate.upgrade(str(path), revision)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(WRITTEN.get(revision, ""))
    return path


def ask(path: Path, sql: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


def contents(path: Path, revision: str) -> dict[str, list[Any]]:
    """All rows of the tables that a revision has."""
    known = REVISIONS[: REVISIONS.index(revision) + 1]
    tables = [name for known in known for name in TABLES.get(known, ())]
    return {name: ask(path, f"SELECT * FROM {name}") for name in tables}


@pytest.mark.parametrize(("written", "following"), list(pairwise(REVISIONS)), indirect=["written"])
def test_what_was_there_is_there_after_the_next_revision_and_after_going_back(
    written: Path, following: str
) -> None:
    before = REVISIONS[REVISIONS.index(following) - 1]
    rows = contents(written, before)
    assert all(rows.values())
    migrate.upgrade(str(written), following)
    for name, found in contents(written, before).items():
        kept = [row[: len(rows[name][0])] for row in found]  # without the columns that came
        assert [row for row in kept if row in rows[name]] == rows[name]
    migrate.downgrade(str(written), before)
    assert contents(written, before) == rows


@pytest.mark.parametrize("written", REVISIONS, indirect=True)
def test_every_way_leads_to_the_schema_that_the_program_describes(written: Path) -> None:
    migrate.upgrade(str(written))
    made = ask(
        written, "SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND name <> 'alembic_version'"
    )
    assert sorted(sql for (sql,) in made) == sorted(DDL)
    assert ask(written, "SELECT count(*) FROM artifact") == [(3,)]


@pytest.mark.parametrize("written", ["0002"], indirect=True)
def test_a_host_that_is_open_while_the_journal_comes_is_named_by_it(written: Path) -> None:
    migrate.upgrade(str(written), "0003")
    assert ask(written, "SELECT * FROM history") == []
    assert ask(written, "SELECT sum(value) FROM counter") == [(0,)]
    # What it knows of the schema is still there; and what it does is told from now on.
    publish(written)
    told = ask(written, "SELECT at, event, who FROM events")
    assert told == [(12, "published", "process 7 on here: python job.py")]


@pytest.mark.parametrize("written", ["0003"], indirect=True)
def test_a_host_that_is_open_while_more_is_counted_goes_on_counting(written: Path) -> None:
    migrate.upgrade(str(written), "0004")
    publish(written)
    assert ask(written, "SELECT name, value FROM counters WHERE value > 0") == [
        *(("published", 1), ("reaped", 1), ("pruned", 1), ("pruned_bytes", 4))
    ]
    assert ask(written, "SELECT value FROM counters LIMIT 3") == [(0,)] * 3


@pytest.mark.parametrize("written", ["0003"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "error", "before", "after"),
    [
        ("deadline", "the compiler gave up", "reaped", "failed"),
        ("host_died", "the compiler gave up", "reaped", "failed"),
        ("host_died", "the host that prepared it died", "reaped", "reaped"),
        ("link", "the host that prepared it died", "failed", "failed"),
    ],
)
def test_a_failure_of_ones_own_is_told_from_reaping_since_0004(
    written: Path, kind: str, error: str, before: str, after: str
) -> None:
    for revision, event in (("0003", before), ("0004", after)):
        migrate.upgrade(str(written), revision)
        ask(
            written,
            "UPDATE artifact SET state = 'failed', num_failures = num_failures + 1, error = ?, "
            "error_kind = ?, last_time_failed = 12, path = NULL, token = NULL, host_id = NULL, "
            "claimed_at = NULL, deadline = NULL WHERE code_hash = ?",
            *(error, kind, OTHER),
        )
        assert ask(written, "SELECT event, reason FROM history ORDER BY id DESC LIMIT 1") == [
            (event, kind)
        ]
        claim_again(written)


@pytest.mark.parametrize("written", ["0003"], indirect=True)
def test_the_next_prune_is_the_same_before_and_after_0004(written: Path) -> None:
    sql = (
        "SELECT position, id, label, size, needed, reason, freed, bytes, bytes_freed, "
        "last_time_needed, code_hash, prep_hash FROM next_prune"
    )
    before = ask(written, sql)
    migrate.upgrade(str(written), "0004")
    assert ask(written, sql) == before
    assert [row[2] for row in before] == ["module.wasm"]


@pytest.mark.parametrize("written", ["0004"], indirect=True)
def test_failures_that_are_there_are_counted_when_0005_comes(written: Path) -> None:
    failed = ask(
        written,
        "SELECT count(*), sum(length(CAST(error AS BLOB))) FROM artifact WHERE state = 'failed'",
    )
    migrate.upgrade(str(written), "0005")
    assert ask(written, "SELECT * FROM failure_usage") == failed != [(0, None)]
    assert ask(written, "SELECT value FROM counters WHERE name = 'forgotten'") == [(0,)]
    # A host of the version before goes on, and what it does is counted.
    claim_again(written)
    ask(written, "DELETE FROM artifact WHERE state = 'failed'")
    assert ask(written, "SELECT * FROM failure_usage") == [(0, 0)]


def publish(path: Path) -> None:
    """End the claim that was written, as a host does."""
    ask(
        path,
        "UPDATE artifact SET state = 'prepared', size = 1, checksum = 'c', last_time_needed = 12, "
        "token = NULL, host_id = NULL, claimed_at = NULL, deadline = NULL WHERE code_hash = ?",
        OTHER,
    )


def claim_again(path: Path) -> None:
    ask(
        path,
        "UPDATE artifact SET state = 'preparing', path = ?, token = 't', host_id = 'h', "
        "claimed_at = 5, deadline = 9 WHERE code_hash = ?",
        *(FILE.replace("1", "2"), OTHER),
    )
