"""Keep the failures within their bounds: not too many, not too long in all, none too old.

A failure is remembered so that it is not repeated. Forgotten, its code is tried once more, which
costs time and harms nothing. Those go first that failed longest ago; one that failed just now never
does, nor one that is claimed, for it is no failed row then.
"""

from __future__ import annotations

from registry import config
from registry.artifact import to_micros
from registry.effects import Now, Verb
from registry.log import about, logger
from registry.record import Record
from registry.sql.queries import FAILURE_USAGE, NO_ROW
from registry.sql.transitions import FORGET_BATCH, Event
from registry.verbs.database import end, one
from registry.verbs.handle import Handle
from registry.verbs.history import ended, record

__all__ = ["FailureUsage", "forget_failures", "read_failure_usage"]


class FailureUsage(Record):
    """How many failures are kept, the bytes of their errors, and what bounds them (microseconds).

    `oldest` is when the oldest failed; None where there is none.
    """

    count: int
    bytes: int
    max_count: int
    max_bytes: int
    max_age: int
    oldest: int | None

    def is_over(self, now: int) -> bool:
        """Whether there is something to forget."""
        too_old = self.oldest is not None and self.oldest <= now - self.max_age
        return too_old or self.count > self.max_count or self.bytes > self.max_bytes


def read_failure_usage() -> Verb[FailureUsage]:
    """Read how many failures are kept, and the settings of the cache that bound them."""
    count, size, max_count, max_bytes, max_age, oldest = yield from one(FAILURE_USAGE, {})
    return FailureUsage(
        count,
        size,
        config.FAILED_MAX_COUNT if max_count is None else max_count,
        config.FAILED_MAX_BYTES if max_bytes is None else max_bytes,
        to_micros(config.FAILED_MAX_AGE) if max_age is None else max_age,
        oldest,
    )


def forget_failures(handle: Handle, spared: int = NO_ROW) -> Verb[int]:
    """Delete the failures beyond the bounds, but never the one spared; how many went."""
    usage = yield from read_failure_usage()
    now = yield from Now()
    if not usage.is_over(now):  # the common case: not even the write lock is asked for
        return 0
    bounds = {"count_limit": usage.max_count, "bytes_limit": usage.max_bytes}
    when = {"now": now, "horizon": now - usage.max_age}
    gone = 0
    while True:
        most = {"spared": spared, "most": FORGET_BATCH}
        rows = (yield from end(Event.FORGET, {**bounds, **when, **most})).rows
        yield from record(handle, map(ended, rows), "forgotten", now)
        gone += len(rows)
        if len(rows) < FORGET_BATCH:
            break
    handle.counters.forgotten += gone
    if gone:
        logger.info(
            "forgot %d failures beyond the bounds", gone, extra=about("forgotten", count=gone)
        )
    return gone
