"""Each statement is asked for its plan: what it costs must not grow with what is held.

Nothing may walk or sort a table but what is named here, each with what bounds it. The statements
are looked for in every module of the product, so none can be forgotten.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest

import registry
from registry.schema.ddl import DDL
from registry.sql import journal, queries
from registry.sql.statement import Statement
from registry.sql.transitions import TRANSITIONS


def statements() -> list[Statement]:
    """Every statement that a module of the product knows by a name, by itself or in a mapping."""
    found: dict[int, Statement] = {}
    for module in pkgutil.walk_packages(registry.__path__, "registry."):
        # What would run, what is in a wheel only and Alembic's to import, and what the text of the
        # statements is compiled from.
        if module.name.startswith(
            ("registry.__main__", "registry.migrations", "registry.sql.core")
        ):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            for one in value.values() if isinstance(value, Mapping) else (value,):
                if isinstance(one, Statement):
                    found[id(one)] = one
    return sorted(found.values(), key=lambda statement: statement.name)


STATEMENTS = statements()
# One row, or as few as there are settings, counters or hosts.
SMALL = {
    *("alembic_version", "cache", "counter", "failure_usage", "host", "maintenance"),
    *("setting", "usage"),
}
# Who may walk what, and why that is bounded.
WALKS: dict[str, dict[str, str]] = {
    "aliens": {"artifact": "check reads every row"},
    "removable": {"artifact": "stops after one batch; all of it goes"},
    "sums": {"artifact_by_last_use": "check counts the prepared anew"},
    "correct usage": {"artifact_by_last_use": "repair counts the prepared anew"},
    "counts": {"artifact_preparing": "as few as the hosts"},
    "failure sums": {"artifact_failed": "check counts the failed anew"},
    "correct failure usage": {"artifact_failed": "repair counts the failed anew"},
    "ahead": {"artifact_preparing": "as few as the hosts"},
    "all preparing": {"artifact_preparing": "as few as the hosts"},
    "failed as": {"artifact_failed": "few among many"},
    "failures": {"artifact_failed": "few among many"},
    "claimants": {"artifact_preparing": "as few as the hosts"},
    "history": {"history": "the journal keeps 10,000 events"},
    "past by prefix": {"history": "the journal keeps 10,000 events"},
}
# Who may sort, and what.
SORTS = {
    "prune": "one batch",
    "forget": "one batch",
    "doomed": "a dry run",
    "doomed of kind": "one batch, or a dry run",
    "prune kind": "one batch",
    "kinds": "as few as the kinds",
    "all preparing": "as few as the hosts",
    "hosts": "as few as the hosts",
    "history": "what the journal keeps of one artifact",
    "past by prefix": "what the journal keeps",
    "failed as": "few among many",
    "failures": "few among many",
}
_WALK = re.compile(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    """An empty database of our schema, in memory."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in DDL:
            connection.execute(statement)
        connection.execute("CREATE TABLE alembic_version (version_num)")  # made by Alembic itself
        yield connection


class Anything(dict[str, None]):
    """Parameters for a plan, which does not look at them."""

    def __missing__(self, name: str) -> None:
        return None


def plan(database: sqlite3.Connection, statement: Statement) -> list[str]:
    asked = database.execute(f"EXPLAIN QUERY PLAN {statement.sql}", Anything())
    return [line for *_, line in asked]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
def test_no_statement_walks_a_table_but_those_that_are_bounded(
    database: sqlite3.Connection, statement: Statement
) -> None:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    walks = [found for line in plan(database, statement) if (found := _WALK.match(line))]
    walked = {walk[2] or walk[1] for walk in walks if walk[1] in tables - SMALL}
    assert walked == set(WALKS.get(statement.name, ()))


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
def test_no_statement_sorts_but_those_that_are_bounded(
    database: sqlite3.Connection, statement: Statement
) -> None:
    sorts = any("TEMP B-TREE" in line for line in plan(database, statement))
    assert not sorts or statement.name in SORTS


def test_the_statements_seen_are_those_of_all_modules() -> None:
    assert {*TRANSITIONS.values(), queries.READ, journal.RECORD} <= set(STATEMENTS)
    names = [statement.name for statement in STATEMENTS]
    assert len(names) == len(set(names))
    assert set(WALKS) | set(SORTS) <= set(names)


def test_each_statement_has_one_line_of_english() -> None:
    assert [s.name for s in STATEMENTS if not re.fullmatch(r"[A-Z][^\n]*\.", s.says)] == []
