"""Compile SQLAlchemy Core to the text of a statement."""

from __future__ import annotations

import textwrap
from typing import Any

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, bindparam, literal_column
from sqlalchemy.dialects import sqlite

from registry.sql.statement import Statement

__all__ = ["compiled", "constant", "given"]

_DIALECT = sqlite.dialect(paramstyle="named")
_WIDTH = 100
_CLAUSES = ("FROM", "GROUP", "LEFT", "LIMIT", "ON", "ORDER", "RETURNING", "SELECT", "SET", "VALUES")
_BEGIN_A_LINE = frozenset((*_CLAUSES, "WHERE", "AND"))


def compiled(
    name: str, says: str, clause: ClauseElement, *, writes: bool = False, durable: bool = False
) -> Statement:
    """Compile a Core clause for SQLite; a parameter that was not declared with `given` is a bug."""
    result = clause.compile(dialect=_DIALECT)
    stray = [key for key, value in result.params.items() if value is not None]
    if stray:
        raise AssertionError(f"{name}: the values of {stray} would be lost; use constant()")
    return Statement(name, says, _laid_out(str(result)), writes, durable)


def given(name: str) -> BindParameter[Any]:
    """Declare a parameter that each run supplies."""
    return bindparam(name)


def constant(value: str | float) -> ColumnElement[Any]:
    """Write a constant into the text; with a bound one SQLite would not use a partial index."""
    return literal_column(f"'{value}'" if isinstance(value, str) else str(value))


def _laid_out(sql: str) -> str:
    """Begin each clause, and each condition, on a line of its own; no constant holds a space."""
    lines, depth = [""], 0
    for word in sql.split():
        if depth == 0 and word in _BEGIN_A_LINE:
            lines.append("  " * (word == "AND"))
        lines[-1] += f"{word} "
        depth += word.count("(") - word.count(")")
    return "\n".join(filter(None, map(_wrapped, lines)))


def _wrapped(line: str) -> str:
    return textwrap.fill(line.rstrip(), _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
