"""The transitions once more, in plain Python over a dictionary: what the SQL must agree with.

Written from the table of states and events in the documentation, not from the statements. After
each statement that the simulator runs, rows and answer are compared with what this gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from registry.sql.queries import Row

__all__ = ["Model"]

Params: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[str, str]

MINUTE = 60 * 1_000_000  # a time further ahead was written before the clock was set back
_NO_CLAIM: dict[str, Any] = dict.fromkeys(("token", "host_id", "claimed_at", "deadline"))
_NO_FILE: dict[str, Any] = dict.fromkeys(("path", "size", "checksum"))
_NO_FAILURE: dict[str, Any] = {
    **dict.fromkeys(("last_time_failed", "error", "error_kind", "retry_at")),
    "num_failures": 0,
}
_DEFAULTS = {
    "max_retries": 5,
    "retry_cooldown": 15 * 60 * 1_000_000,
    "prepare_timeout": 30 * 60 * 1_000_000,
}


class Model:
    """Artifacts by (code_hash, prep_hash), and the stored settings."""

    def __init__(self, rows: Mapping[Key, Row], settings: Mapping[str, int | None]) -> None:
        self.rows = dict(rows)
        self.settings = dict(settings)
        self._moves: dict[str, Callable[[Params], list[Row]]] = {
            "claim": self._claim,
            "take over": self._take_over,
            "reap": self._reap,
            "reap host": self._reap_host,
            "publish": self._publish,
            "fail": self._fail,
            "release": self._release,
            "restore": self._restore,
            "extend": self._extend,
            "redate": self._redate,
            "need": self._need,
            "prune": self._prune,
            "forget": self._forget,
            "remove": self._remove,
            "discard": self._discard,
            "retry": self._retry,
            "configure": self._configure,
        }

    def knows(self, name: str) -> bool:
        """Whether a statement of that name changes what is modelled."""
        return name in self._moves

    def apply(self, name: str, params: Params) -> list[Row]:
        """Make a move; the rows that it changed, or deleted."""
        return self._moves[name](params)

    # --- claims ---------------------------------------------------------------------------------

    def _claim(self, p: Params) -> list[Row]:
        row = self.rows.get((p["code"], p["prep"]))
        if row is None:
            number = max((other.id for other in self.rows.values()), default=0) + 1
            new = Row(number, p["code"], p["prep"], "preparing", *[None] * 17)  # type: ignore[arg-type]
            mine = {**self._my_claim(p), "num_failures": 0, "created_at": p["now"]}
            return self._put(new, **mine, label=p["label"], kind=p["made_by"])
        if row.state != "failed" or not (p["anyway"] or self._may_be_tried(row, p)):
            return []
        if self._is_forgotten(row, p):
            row = row._replace(num_failures=0)
        kept = {"label": p["label"] or row.label, "kind": p["made_by"] or row.kind}
        return self._put(row, **self._my_claim(p), **kept)

    def _may_be_tried(self, row: Row, p: Params) -> bool:
        if row.retry_at is None:
            return False
        set_back = (row.last_time_failed or 0) > p["now"] + MINUTE or row.num_failures == 0
        return row.retry_at <= p["now"] or set_back

    def _take_over(self, p: Params) -> list[Row]:
        row = self._as_seen(p)
        if row is None:
            return []
        if self._is_forgotten(row, p):
            row = row._replace(num_failures=0)
        if row.num_failures + 1 > self._setting(p, "max_retries"):
            return []
        failure = {**self._failure(row, p), "retry_at": p["now"]}
        kept = {"label": p["label"] or row.label, "kind": p["made_by"] or row.kind}
        return self._put(row, **failure, **self._my_claim(p), **kept)

    def _reap(self, p: Params) -> list[Row]:
        row = self._as_seen(p)
        return [] if row is None else self._abandon(row, p)

    def _reap_host(self, p: Params) -> list[Row]:
        theirs = [r for r in self.rows.values() if r.host_id == p["seen_host"]]
        return [row for each in theirs for row in self._abandon(each, p)]

    def _publish(self, p: Params) -> list[Row]:
        row = self._preparing(p, "my_token")
        if row is None:
            return []
        file = {"size": p["size"], "checksum": p["checksum"], "prepare_seconds": p["seconds"]}
        done = {"state": "prepared", "last_time_needed": p["now"], **file}
        return self._put(row, **done, **_NO_FAILURE, **_NO_CLAIM)

    def _fail(self, p: Params) -> list[Row]:
        row = self._preparing(p, "my_token")
        if row is None:
            return []
        again = p["retryable"] and row.num_failures + 1 <= self._setting(p, "max_retries")
        retry_at = p["now"] + self._setting(p, "retry_cooldown") if again else None
        return self._put(row, **self._failed(row, p), retry_at=retry_at)

    def _release(self, p: Params) -> list[Row]:
        row = self._preparing(p, "my_token")
        return [] if row is None or row.last_time_failed is not None else self._drop(row)

    def _restore(self, p: Params) -> list[Row]:
        row = self._preparing(p, "my_token")
        if row is None or row.last_time_failed is None:
            return []
        return self._put(row, state="failed", **_NO_FILE, **_NO_CLAIM)

    def _extend(self, p: Params) -> list[Row]:
        row = self._preparing(p, "my_token")
        later = p["now"] + p["prepare_timeout"]
        if row is None:
            return []
        claimed_at = min(max(row.claimed_at or 0, p["dated"]), p["now"])
        return self._put(row, claimed_at=claimed_at, deadline=later)

    def _redate(self, p: Params) -> list[Row]:
        """A claim that was made before the clock was set back is made now."""
        row = self._as_seen(p)
        if row is None or row.claimed_at is None or row.deadline is None:
            return []
        if row.claimed_at <= p["now"] + MINUTE or row.deadline <= row.claimed_at:
            return []
        span = row.deadline - row.claimed_at
        return self._put(row, claimed_at=p["now"], deadline=p["now"] + span)

    # --- the prepared and the failed ------------------------------------------------------------

    def _need(self, p: Params) -> list[Row]:
        row = self._prepared(p)
        return [] if row is None else self._put(row, last_time_needed=p["now"])

    def _prune(self, p: Params) -> list[Row]:
        """The original's rule: oldest first, strictly over the limit, none needed too recently."""
        prepared = [row for row in self.rows.values() if row.state == "prepared"]
        held = sum(row.size or 0 for row in prepared)
        walk = self._walk(prepared, "last_time_needed", p)
        gone = []
        for row in walk[: p["most"]]:
            needed = row.last_time_needed or 0
            recent = p["horizon"] < needed <= p["now"] + MINUTE
            if held <= p["bytes_limit"] or recent:
                break
            held -= row.size or 0
            gone += self._drop(row)
        return gone

    def _forget(self, p: Params) -> list[Row]:
        """The oldest first, while there are too many, of too many bytes, or too old ones."""
        failed = [row for row in self.rows.values() if row.state == "failed"]
        count, size = len(failed), sum(len((row.error or "").encode()) for row in failed)
        gone = []
        for row in self._walk(failed, "last_time_failed", p):
            old = (row.last_time_failed or 0) <= p["horizon"]
            if count > p["count_limit"] or size > p["bytes_limit"] or old:
                gone += self._drop(row)
            count, size = count - 1, size - len((row.error or "").encode())
        return gone

    def _walk(self, rows: list[Row], time: str, p: Params) -> list[Row]:
        """What lies ahead first, then the oldest."""

        def turn(row: Row) -> tuple[bool, int, int]:
            at = getattr(row, time) or 0
            return at <= p["now"] + MINUTE, at, row.id

        return sorted((row for row in rows if row.id != p["spared"]), key=turn)

    def _remove(self, p: Params) -> list[Row]:
        row = self.rows.get((p["code"], p["prep"]))
        return [] if row is None or row.state == "preparing" else self._drop(row)

    def _discard(self, p: Params) -> list[Row]:
        row = self._prepared(p)
        return [] if row is None else self._drop(row)

    def _retry(self, p: Params) -> list[Row]:
        row = self.rows.get((p["code"], p["prep"]))
        if row is None or row.state != "failed":
            return []
        return self._put(row, num_failures=0, retry_at=p["now"])

    def _configure(self, p: Params) -> list[Row]:
        self.settings.update(json.loads(p["changes"]))
        return []

    # --- words ----------------------------------------------------------------------------------

    def _preparing(self, p: Params, token: str) -> Row | None:
        row = self.rows.get((p["code"], p["prep"]))
        held = row is not None and row.state == "preparing" and row.token == p[token]
        return row if held else None

    def _as_seen(self, p: Params) -> Row | None:
        row = self._preparing(p, "seen_token")
        return row if row is not None and row.deadline == p["seen_deadline"] else None

    def _prepared(self, p: Params) -> Row | None:
        row = self.rows.get((p["code"], p["prep"]))
        same = row is not None and row.state == "prepared" and row.path == p["seen_path"]
        return row if same else None

    def _my_claim(self, p: Params) -> dict[str, Any]:
        return {
            "state": "preparing",
            "path": p["my_path"],
            "token": p["my_token"],
            "host_id": p["my_host"],
            "claimed_at": p["now"],
            "deadline": p["now"] + self._setting(p, "prepare_timeout"),
        }

    def _is_forgotten(self, row: Row, p: Params) -> bool:
        """Whether the last failure is a death of more than a day ago."""
        died = row.error_kind in ("host_died", "deadline")
        return died and (row.last_time_failed or 0) <= p["now"] - 24 * 3600 * 10**6

    def _failure(self, row: Row, p: Params) -> dict[str, Any]:
        words = {"error": p["error"], "error_kind": p["kind"], "last_time_failed": p["now"]}
        return {"num_failures": row.num_failures + 1, **words}

    def _failed(self, row: Row, p: Params) -> dict[str, Any]:
        return {"state": "failed", **self._failure(row, p), **_NO_FILE, **_NO_CLAIM}

    def _abandon(self, row: Row, p: Params) -> list[Row]:
        again = row.num_failures + 1 <= self._setting(p, "max_retries")
        return self._put(row, **self._failed(row, p), retry_at=p["now"] if again else None)

    def _setting(self, p: Params, name: str) -> int:
        """The handle's own, else the stored one, else the default."""
        for value in (p.get(name), self.settings.get(name)):
            if value is not None:
                return int(value)
        return _DEFAULTS[name]

    def _put(self, row: Row, **changes: Any) -> list[Row]:
        changed = row._replace(**changes)
        self.rows[changed.code_hash, changed.prep_hash] = changed
        return [changed]

    def _drop(self, row: Row) -> list[Row]:
        return [self.rows.pop((row.code_hash, row.prep_hash))]
