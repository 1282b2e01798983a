"""All statements that create a new database, in order."""

from __future__ import annotations

from registry.schema import journal, tables, views

__all__ = ["DDL"]

DDL: tuple[str, ...] = (*tables.DDL, *journal.DDL, *views.DDL)
