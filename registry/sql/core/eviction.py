"""Which rows are deleted first when the cache is over a limit; no other module has this rule.

Rows whose time is in the future are deleted first: they were written before the clock was set back,
so before all others. Then the oldest. A statement reads one batch with an index, so its cost does
not grow with the size of the cache.

The usage is read inside the statement, because two processes must not both count the same bytes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BLOB,
    ColumnElement,
    Select,
    Subquery,
    and_,
    cast,
    func,
    or_,
    select,
    union_all,
)

from registry.artifact import State
from registry.sql.core.clock_slack import LATEST, ahead
from registry.sql.core.compiler import constant, given
from registry.sql.core.tables import artifact, failure_usage, usage

__all__ = [
    "ERROR_BYTES",
    "failures_to_forget",
    "in_walk_order",
    "oldest_of_a_kind",
    "oldest_over_the_limit",
]

_ROW = artifact.c
ERROR_BYTES = func.length(cast(_ROW.error, BLOB))  # for a text, length() counts characters


def in_walk_order(time: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    """Return the order in which rows are deleted."""
    return ahead(time).desc(), time, _ROW.id


def oldest_over_the_limit() -> ColumnElement[bool]:
    """Choose what to prune: the original host's rule, as a window over the oldest batch.

    A row goes while what is held, less what goes before it, is still strictly over the limit. The
    walk stops at the first one needed too recently; a time that is a little ahead counts as recent.
    """
    prepared = and_(_ROW.state == constant(State.PREPARED), _ROW.id != given("spared"))
    return _oldest_beyond(prepared, select(usage.c.prepared_bytes).scalar_subquery())


def oldest_of_a_kind() -> ColumnElement[bool]:
    """Choose by the same rule among the artifacts of one kind, whose bytes alone count."""
    prepared = and_(_ROW.state == constant(State.PREPARED), _ROW.kind == given("only"))
    return _oldest_beyond(prepared, select(func.sum(_ROW.size)).where(prepared).scalar_subquery())


def _oldest_beyond(prepared: ColumnElement[bool], held: ColumnElement[Any]) -> ColumnElement[bool]:
    horizon = func.min(given("horizon"), LATEST)
    both = _both(_ROW.last_time_needed, _ROW.size, prepared, horizon)
    chosen = select(both).order_by(both.c.turn, both.c.time, both.c.id).limit(given("most"))
    batch = chosen.offset(constant(0)).subquery("batch")
    walk = select(batch.c.id, _before(batch, batch.c.size).label("freed")).subquery("walk")
    return _ROW.id.in_(select(walk.c.id).where(held - walk.c.freed > given("bytes_limit")))


def failures_to_forget() -> ColumnElement[bool]:
    """Choose the failures to forget: too many, too many bytes in all, or too old.

    The age of one whose time lies ahead is unknown; only the other two bounds apply to it.
    """
    failed = and_(_ROW.state == constant(State.FAILED), _ROW.id != given("spared"))
    # Not cut to one batch: those that lie ahead, and stay, must not hide those that are too old.
    batch = _both(_ROW.last_time_failed, ERROR_BYTES, failed, LATEST)
    freed, gone = _before(batch, batch.c.size), _before(batch, constant(1))
    columns = (batch.c.id, batch.c.time, freed.label("freed"), gone.label("gone"))
    walk = select(*columns).subquery("walk")
    count = select(failure_usage.c.failed_count).scalar_subquery()
    size = select(failure_usage.c.failed_bytes).scalar_subquery()
    doomed = or_(
        count - walk.c.gone > given("count_limit"),
        size - walk.c.freed > given("bytes_limit"),
        walk.c.time <= given("horizon"),
    )
    return _ROW.id.in_(select(walk.c.id).where(doomed))


def _before(batch: Subquery, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Sum the values of earlier rows. A frame of ROWS takes half the time of one of RANGE."""
    in_order = (batch.c.turn, batch.c.time, batch.c.id)
    return func.sum(value).over(order_by=in_order, rows=(None, 0)) - value


def _both(
    time: ColumnElement[Any],
    size: ColumnElement[Any],
    guard: ColumnElement[bool],
    horizon: ColumnElement[Any],
) -> Subquery:
    """Take a batch of the rows that lie ahead, and one of those not beyond the horizon."""
    first = _oldest(0, time, size, and_(guard, ahead(time))).subquery("ahead")
    then = _oldest(1, time, size, and_(guard, time <= horizon)).subquery("behind")
    return union_all(select(first), select(then)).subquery("both")


def _oldest(
    turn: int, time: ColumnElement[Any], size: ColumnElement[Any], guard: ColumnElement[bool]
) -> Select[Any]:
    return (
        select(_ROW.id, size.label("size"), time.label("time"), constant(turn).label("turn"))
        .where(guard)
        .order_by(time, _ROW.id)
        .limit(given("most"))
        .offset(constant(0))
    )
