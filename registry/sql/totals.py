"""The statements that add to the counters of the cache, and read them."""

from __future__ import annotations

from registry.sql.sqlite import SQLITE

__all__ = ["TELL", "TOTALS"]

TELL = SQLITE["tell"]
TOTALS = SQLITE["totals"]
