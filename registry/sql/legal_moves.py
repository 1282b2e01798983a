"""The legal moves of an artifact: the only copy of the rules.

    (no row) --claim--> preparing --publish--> prepared --need--> prepared
                        preparing --fail-----> failed
                        failed    --claim, once retry_at has come--> preparing
                        preparing --release--> (no row), or failed again as before (restore)
                        preparing --take over, by another claimant--> preparing
                        preparing --reap-----> failed
                        prepared  --prune, remove, discard--> (no row)
                        failed    --remove, forget--> (no row)
                        failed    --retry----> failed, claimable now

`registry.sql.core.transitions` makes one guarded statement for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from registry.artifact import State
from registry.record import Record

__all__ = ["MOVES", "Event", "Move"]


class Event(StrEnum):
    """What can happen to an artifact."""

    CLAIM = "claim"
    TAKE_OVER = "take over"
    PUBLISH = "publish"
    FAIL = "fail"
    RELEASE = "release"
    RESTORE = "restore"
    REAP = "reap"
    REAP_HOST = "reap host"
    EXTEND = "extend"
    REDATE = "redate"
    NEED = "need"
    PRUNE = "prune"
    FORGET = "forget"
    REMOVE = "remove"
    DISCARD = "discard"
    RETRY = "retry"


class Move(Record):
    """The states in which an event may happen, and the state that it leads to; None is "no row"."""

    sources: tuple[State | None, ...]
    target: State | None


MOVES: Mapping[Event, Move] = MappingProxyType(
    {
        Event.CLAIM: Move((None, State.FAILED), State.PREPARING),
        Event.TAKE_OVER: Move((State.PREPARING,), State.PREPARING),
        Event.PUBLISH: Move((State.PREPARING,), State.PREPARED),
        Event.FAIL: Move((State.PREPARING,), State.FAILED),
        Event.RELEASE: Move((State.PREPARING,), None),
        Event.RESTORE: Move((State.PREPARING,), State.FAILED),
        Event.REAP: Move((State.PREPARING,), State.FAILED),
        Event.REAP_HOST: Move((State.PREPARING,), State.FAILED),
        Event.EXTEND: Move((State.PREPARING,), State.PREPARING),
        Event.REDATE: Move((State.PREPARING,), State.PREPARING),
        Event.NEED: Move((State.PREPARED,), State.PREPARED),
        Event.PRUNE: Move((State.PREPARED,), None),
        Event.FORGET: Move((State.FAILED,), None),
        Event.REMOVE: Move((State.PREPARED, State.FAILED), None),
        Event.DISCARD: Move((State.PREPARED,), None),
        Event.RETRY: Move((State.FAILED,), State.FAILED),
    }
)
