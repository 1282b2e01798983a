"""The source of the statements: SQLAlchemy Core, compiled to text for each database.

Nothing imports this at run time. `python -m registry.sql.core` writes `sqlite.sql` again.
"""

from __future__ import annotations

from registry.sql.core import (
    failures,
    health,
    hosts,
    journal,
    queries,
    totals,
    transitions,
)
from registry.sql.statement import Statement

__all__ = ["sqlite_statements"]


def sqlite_statements() -> list[Statement]:
    """List every statement, compiled for SQLite, in the order of the file."""
    found = list(transitions.TRANSITIONS.values())
    for module in (queries, hosts, failures, journal, totals, health):
        found += [each for each in vars(module).values() if isinstance(each, Statement)]
    return found
