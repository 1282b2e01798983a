"""A statement: SQL with a name and one line of English, built once from SQLAlchemy Core.

Compiling costs several times what running does, so it happens at import; what is run is text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, bindparam, literal_column
from sqlalchemy.dialects import sqlite

__all__ = ["Statement", "compiled", "constant", "given"]

_DIALECT = sqlite.dialect(paramstyle="named")


@dataclass(frozen=True, slots=True)
class Statement:
    """Name a statement, say what it does, and hold its SQL with `:named` parameters.

    `durable` statements run on the connection that syncs the WAL before it returns: each DELETE
    that comes before an unlink is one, for a row that a power cut brought back would name a file
    that is gone. `writes` ones may leave the WAL to be checkpointed.
    """

    name: str
    says: str
    sql: str
    writes: bool = False
    durable: bool = False


def compiled(
    name: str, says: str, clause: ClauseElement, *, writes: bool = False, durable: bool = False
) -> Statement:
    """Compile a Core clause for SQLite; a parameter that was not declared with `given` is a bug."""
    result = clause.compile(dialect=_DIALECT)
    stray = [key for key, value in result.params.items() if value is not None]
    if stray:
        raise AssertionError(f"{name}: the values of {stray} would be lost; use constant()")
    return Statement(name, says, str(result), writes, durable)


def given(name: str) -> BindParameter[Any]:
    """Declare a parameter that each run supplies."""
    return bindparam(name)


def constant(value: str | float) -> ColumnElement[Any]:
    """Write a constant of ours into the text: a bound one would hide a partial index."""
    return literal_column(f"'{value}'" if isinstance(value, str) else str(value))
