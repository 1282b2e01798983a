"""The statements that read and count failures, written in SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import func, select

from registry.artifact import State
from registry.sql.core.compiler import compiled, constant, given
from registry.sql.core.eviction import ERROR_BYTES
from registry.sql.core.tables import artifact, failure_usage
from registry.sql.core.transitions import stored
from registry.sql.statement import Statement

_ROW = artifact.c
_FAILED = _ROW.state == constant(State.FAILED)

FAILURE_SUMS = compiled(
    "failure sums",
    "Count the failed and the bytes of their errors again, beside what the triggers counted.",
    select(
        failure_usage.c.failed_count,
        failure_usage.c.failed_bytes,
        select(func.count()).select_from(artifact).where(_FAILED).scalar_subquery(),
        select(func.coalesce(func.sum(ERROR_BYTES), constant(0))).where(_FAILED).scalar_subquery(),
    ),
)
CORRECT_FAILURE_USAGE = Statement(
    "correct failure usage",
    "Set the failure usage to the real count and sum of the failed.",
    """\
UPDATE failure_usage SET (failed_count, failed_bytes) =
  (SELECT count(*), coalesce(sum(length(CAST(error AS BLOB))), 0)
   FROM artifact WHERE state = 'failed')""",
    writes=True,
)
FAILURE_USAGE = compiled(
    "failure usage",
    "Read how many failures are kept, what bounds them, and when the oldest was.",
    select(
        failure_usage.c.failed_count,
        failure_usage.c.failed_bytes,
        stored("failed_max_count"),
        stored("failed_max_bytes"),
        stored("failed_max_age"),
        select(func.min(_ROW.last_time_failed)).where(_FAILED).scalar_subquery(),
    ),
)
FAILURES = compiled(
    "failures",
    "Count the failed by kind, the most frequent first.",
    select(_ROW.error_kind, func.count())
    .where(_FAILED)
    .group_by(_ROW.error_kind)
    .order_by(func.count().desc())
    .limit(given("most"))
    .offset(constant(0)),
)
FAILED_AS = compiled(
    "failed as",
    "Read some of the artifacts that failed in one way, those given up first.",
    select(*_ROW)
    .where(_FAILED, _ROW.error_kind == given("kind"))
    .order_by(_ROW.retry_at.is_not(None), _ROW.last_time_failed.desc())
    .limit(given("most"))
    .offset(constant(0)),
)
