"""The statements that write and read the journal."""

from __future__ import annotations

from registry.sql.sqlite import SQLITE

__all__ = ["EVENTS_PAGE", "HISTORY", "PAST_BY_PREFIX", "REBUILT", "RECORD"]

RECORD = SQLITE["record"]
HISTORY = SQLITE["history"]
EVENTS_PAGE = SQLITE["events page"]
PAST_BY_PREFIX = SQLITE["past by prefix"]
REBUILT = SQLITE["rebuilt"]
