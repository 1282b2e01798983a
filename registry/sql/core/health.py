"""The statements that look for faults: of the database, of its clock, of single rows."""

from __future__ import annotations

from sqlalchemy import func, select

from registry.artifact import State
from registry.sql.core.clock_slack import ahead
from registry.sql.core.compiler import compiled, constant
from registry.sql.core.tables import artifact
from registry.sql.statement import Statement

_ROW = artifact.c
_PREPARED = _ROW.state == constant(State.PREPARED)
_PREPARING = _ROW.state == constant(State.PREPARING)
_FAILED = _ROW.state == constant(State.FAILED)

INTEGRITY = Statement("integrity", "Let SQLite check its own file.", "PRAGMA integrity_check(20)")
JOURNAL_MODE = Statement(
    "journal mode", "Read the journal mode of the database.", "PRAGMA journal_mode"
)
PAGES = Statement(
    "pages",
    "Read the size of the database, and how much of it is free to be used again.",
    """\
SELECT page_count * page_size, freelist_count * page_size
FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()""",
)
REVISION = Statement(
    "revision", "Read the revision of the schema.", "SELECT version_num FROM alembic_version"
)
AHEAD = compiled(
    "ahead",
    "Count the times that were written before the clock was set back.",
    select(
        select(func.count()).where(_PREPARED, ahead(_ROW.last_time_needed)).scalar_subquery(),
        select(func.count()).where(_FAILED, ahead(_ROW.last_time_failed)).scalar_subquery(),
        select(func.count()).where(_PREPARING, ahead(_ROW.claimed_at)).scalar_subquery(),
    ),
)

# The CHECKs of the schema read a text up to its first NUL only.
_IS_ALIEN = """\
(length(CAST(code_hash AS BLOB)) <> 64 OR code_hash GLOB '*[^0-9a-f]*'
 OR length(CAST(prep_hash AS BLOB)) <> 64 OR prep_hash GLOB '*[^0-9a-f]*'
 OR state NOT IN ('preparing', 'prepared', 'failed'))"""
ALIENS = Statement(
    "aliens",
    "Find the rows with an invalid hash or state: no version of registry wrote them.",
    f"SELECT id FROM artifact WHERE {_IS_ALIEN}",  # noqa: S608
)
DROP_ALIENS = Statement(
    "drop aliens",
    "Delete such rows, by a JSON array of their row ids; their files are garbage then.",
    f"DELETE FROM artifact\nWHERE id IN (SELECT value FROM json_each(:ids))\n  AND {_IS_ALIEN}",  # noqa: S608
    writes=True,
    durable=True,
)
