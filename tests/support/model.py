"""The registry as a plain dict: what every verb is to do, in Python, with no database and no file.

It follows the text of the design, not the code: where the two disagree, one of them is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from registry import ArtifactId

__all__ = ["HALF_AN_HOUR", "Model", "Row"]

SECOND = 1_000_000
COOLDOWN = 15 * 60 * SECOND
HALF_AN_HOUR = 30 * 60 * SECOND
HOUR = 3600 * SECOND
MAX_RETRIES = 5


@dataclass
class Row:
    """An artifact that is known; times in microseconds."""

    number: int
    state: str
    needed: int | None = None
    size: int | None = None
    failures: int = 0
    failed_at: int | None = None
    kind: str | None = None
    retry_at: int | None = None
    token: int | None = None
    deadline: int | None = None
    dead: bool = False  # its claimant is
    spoilt: bool = False  # its file is


@dataclass
class Model:
    """All that is known, and what bounds it."""

    now: int
    cache_limit: int
    min_stale_time: int
    hard_limit: int | None
    rows: dict[ArtifactId, Row] = field(default_factory=dict)
    maintained_at: int = field(init=False)

    def __post_init__(self) -> None:
        self.maintained_at = self.now

    # --- claims ---------------------------------------------------------------------------------

    def claim(self, id: ArtifactId, token: int) -> bool:
        """Whether the claim is had."""
        row = self.rows.get(id)
        if row is None:
            number = 1 + max((known.number for known in self.rows.values()), default=0)
            self.rows[id] = row = Row(number, "preparing")
        elif row.state == "failed":
            if row.retry_at is None or row.retry_at > self.now:
                return False
            if self.is_forgotten(row):
                row.failures = 0
        elif row.state == "prepared" or not self.abandoned(row):
            return False
        else:
            if self.is_forgotten(row):
                row.failures = 0
            self.reap(row)
            if row.retry_at is None:
                return False
        row.state, row.token, row.dead = "preparing", token, False
        row.deadline = self.now + HALF_AN_HOUR
        return True

    def holds(self, id: ArtifactId, token: int) -> bool:
        row = self.rows.get(id)
        return row is not None and row.token == token

    def publish(self, id: ArtifactId, size: int) -> None:
        number = self.rows[id].number
        self.rows[id] = Row(number, "prepared", needed=self.now, size=size)
        self.keep_within_limits(spared=id)
        if self.maintenance_is_due():
            self.clean()
            self.keep_within_limits(spared=id)

    def fail(self, id: ArtifactId, kind: str, *, retryable: bool) -> None:
        row = self.rows[id]
        self.count_failure(row, kind, self.now + COOLDOWN if retryable else None)

    def release(self, id: ArtifactId) -> None:
        row = self.rows[id]
        if row.failed_at is None:
            del self.rows[id]
        else:
            row.state, row.token, row.deadline, row.dead = "failed", None, None, False

    def extend(self, id: ArtifactId, span: int) -> None:
        self.rows[id].deadline = self.now + span

    def abandoned(self, row: Row) -> bool:
        return row.state == "preparing" and (row.dead or (row.deadline or 0) <= self.now)

    def is_forgotten(self, row: Row) -> bool:
        died = row.kind in ("host_died", "deadline") and row.failed_at is not None
        return died and (row.failed_at or 0) <= self.now - 24 * HOUR

    def reap(self, row: Row) -> None:
        self.count_failure(row, "host_died" if row.dead else "deadline", self.now)

    def count_failure(self, row: Row, kind: str, retry_at: int | None) -> None:
        row.failures += 1
        row.state, row.kind, row.failed_at = "failed", kind, self.now
        row.retry_at = retry_at if row.failures <= MAX_RETRIES else None
        row.token, row.deadline, row.dead = None, None, False

    # --- the prepared ---------------------------------------------------------------------------

    def need(self, id: ArtifactId) -> bool:
        """Whether it is there."""
        row = self.rows.get(id)
        if row is None or row.state != "prepared":
            return False
        if row.spoilt:
            del self.rows[id]
            return False
        row.needed = self.now
        return True

    def prepared(self) -> list[tuple[ArtifactId, Row]]:
        """The least recently needed first."""
        ready = [known for known in self.rows.items() if known[1].state == "prepared"]
        return sorted(ready, key=lambda known: (known[1].needed, known[1].number))

    def held(self) -> int:
        return sum(row.size or 0 for _, row in self.prepared())

    def doomed(
        self, limit: int, horizon: int, spared: ArtifactId | None = None
    ) -> list[ArtifactId]:
        held, gone = self.held(), []
        for named, row in self.prepared():
            if named == spared:
                continue
            if held <= limit or (row.needed or 0) > horizon:
                break
            held -= row.size or 0
            gone.append(named)
        return gone

    def prune(self, limit: int | None, stale: int | None) -> list[ArtifactId]:
        hard_limit = self.hard_limit if (limit, stale) == (None, None) else None
        limit = self.cache_limit if limit is None else limit
        stale = self.min_stale_time if stale is None else stale
        gone = self.drop(self.doomed(limit, self.now - stale))
        if hard_limit is not None:
            gone += self.drop(self.doomed(hard_limit, 2**63))
        if self.maintenance_is_due():
            self.clean()
        return gone

    def keep_within_limits(self, spared: ArtifactId) -> None:
        self.drop(self.doomed(self.cache_limit, self.now - self.min_stale_time, spared))
        if self.hard_limit is not None:
            self.drop(self.doomed(self.hard_limit, 2**63, spared))

    def drop(self, ids: list[ArtifactId]) -> list[ArtifactId]:
        for named in ids:
            del self.rows[named]
        return ids

    # --- by hand, and by the hour ---------------------------------------------------------------

    def retry(self, id: ArtifactId) -> bool:
        row = self.rows.get(id)
        if row is None or row.state != "failed":
            return False
        self.rows[id] = replace(row, failures=0, retry_at=self.now)
        return True

    def maintenance_is_due(self) -> bool:
        if self.now - self.maintained_at < HOUR:
            return False
        self.maintained_at = self.now
        return True

    def clean(self) -> None:
        """Reap the dead, and drop the rows whose files are gone."""
        for row in self.rows.values():
            if row.dead:
                self.reap(row)
        self.drop([named for named, row in self.rows.items() if row.spoilt])
