"""SQL conditions for times that were written before the clock was set back.

The rule and its reason are in `registry.clock_slack`. `:now` is a parameter, as everywhere.
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


# When `retry_at` has come. Also if it failed before the clock was set back, or if a person allowed
# another try (that sets the count of failures to 0): then `retry_at` may be wrong.
MAY_BE_TRIED = and_(
    _ROW.retry_at.is_not(None),
    or_(
        _ROW.retry_at <= given("now"),
        ahead(_ROW.last_time_failed),
        _ROW.num_failures == constant(0),
    ),
)
