"""Whether a time was written before the clock was set back, as statements ask it.

The rule, and its reason, stand in `registry.clock_slack`. `:now` is handed in, as everywhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from registry.clock_slack import CLOCK_SLACK_MICROS
from registry.sql.core.compiler import constant, given
from registry.sql.core.tables import artifact

__all__ = ["LATEST", "MAY_BE_TRIED", "ahead"]

_ROW = artifact.c
LATEST = given("now") + constant(CLOCK_SLACK_MICROS)


def ahead(time: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a time was written before the clock was set back."""
    return time > LATEST


# Not before its time, unless it failed before the clock was set back, or was let be tried by hand
# (that sets its count of failures to 0), whatever the clock was then.
MAY_BE_TRIED = and_(
    _ROW.retry_at.is_not(None),
    or_(
        _ROW.retry_at <= given("now"),
        ahead(_ROW.last_time_failed),
        _ROW.num_failures == constant(0),
    ),
)
