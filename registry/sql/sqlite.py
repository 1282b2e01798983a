"""The statements for SQLite, read from `sqlite.sql` once in each process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from registry.sql.statement import Statement, parse

__all__ = ["SQLITE"]

SQLITE: Mapping[str, Statement] = MappingProxyType(
    parse(Path(__file__).with_name("sqlite.sql").read_text("utf-8"))
)
