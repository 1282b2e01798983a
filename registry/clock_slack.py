"""When a stored time shows that the clock was set back; no other module has this rule.

Times in rows come from the clock of the day, which may be wrong for a while: a virtual machine that
has not asked NTP yet, a laptop whose battery was empty. Once it is set right, rows written before
lie in the future. Nothing that was written can lie there otherwise, but for a little: all hosts of
a cache share one clock, so a time ahead of ours is that of a host that looked at the clock after
us, or before a small correction. `CLOCK_SLACK` says how much of that is nothing to speak of.

A time within the slack counts as now. One beyond it says nothing but "before the clock was set
back": what failed then may be tried again, what was needed then is pruned first, what was done then
is due, and a claim made then is dated again. A claim that was made before and extended then bears
the time of that extension, so that it shows as well. Statements say the same by
`registry.sql.core.clock_slack`.
"""

from __future__ import annotations

from datetime import timedelta

__all__ = ["CLOCK_SLACK", "CLOCK_SLACK_MICROS", "is_ahead", "was_set_forth"]

# NTP slews what is off by less than half a second and steps the rest; a host that is stopped
# between looking at the clock and writing is late, never early. A minute is far more than either,
# and little enough to wait for.
CLOCK_SLACK = timedelta(minutes=1)
CLOCK_SLACK_MICROS = 60 * 1_000_000


def is_ahead(at: int, now: int) -> bool:
    """Whether a stored time (microseconds) was written before the clock was set back."""
    return at > now + CLOCK_SLACK_MICROS


def was_set_forth(before: tuple[int, float], after: tuple[int, float]) -> bool:
    """Whether the clock was set forward between two readings (microseconds, seconds elapsed)."""
    passed = int((after[1] - before[1]) * 1_000_000)
    return is_ahead(after[0] - passed, before[0])
