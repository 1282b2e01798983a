"""What is written to the journal, and what is read from it."""

from __future__ import annotations

from registry.sql.sqlite import SQLITE

__all__ = ["EVENTS_PAGE", "HISTORY", "PAST_BY_PREFIX", "REBUILT", "RECORD"]

RECORD = SQLITE["record"]
HISTORY = SQLITE["history"]
EVENTS_PAGE = SQLITE["events page"]
PAST_BY_PREFIX = SQLITE["past by prefix"]
REBUILT = SQLITE["rebuilt"]
