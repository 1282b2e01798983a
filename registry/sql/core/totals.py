"""The counters of the cache, written in SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import select

from registry.sql.core.compiler import compiled
from registry.sql.core.tables import counter
from registry.sql.statement import Statement

TELL = Statement(
    "tell",
    "Add what a handle counted since its last call to the counters of the cache.",
    """\
UPDATE counter SET value = value +
  CASE name WHEN 'hits' THEN :hits WHEN 'misses' THEN :misses ELSE :coalesced END
WHERE name IN ('hits', 'misses', 'coalesced')""",
    writes=True,
)
TOTALS = compiled(
    "totals", "Read the counters of the cache.", select(counter.c.name, counter.c.value)
)
