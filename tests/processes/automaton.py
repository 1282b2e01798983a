"""Log every change of every row, and see that each was a legal move of an artifact.

The triggers are the test's, not the product's: they are made in the database of one test, and write
what a row was and what it became within the transaction that changed it. So the log is in the order
of the commits, whatever process made them, and it has no gaps: what a row was is what the line
before said that it became.

The legal moves are written from the table of states and events in the documentation, not from the
statements, nor from the table that these are made of. Two things no single change can show, and the
automaton remembers: no token and no file name comes twice, and who is said to have died is dead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from processes.traces import connected
from registry import ArtifactId

__all__ = ["LEGAL", "Automaton", "Illegal", "Line", "Seen", "watch"]

MAX_RETRIES = 5
CLAIM = frozenset({"state", "path", "host_id", "token", "claimed_at", "deadline"})


class Illegal(AssertionError):
    """A row changed in a way that no artifact does."""


class Seen(NamedTuple):
    """What the log says of a row at one moment, times in microseconds; no row at all is None."""

    state: str
    path: str | None = None
    size: int | None = None
    checksum: str | None = None
    last_time_needed: int | None = None
    num_failures: int = 0
    last_time_failed: int | None = None
    error: str | None = None
    error_kind: str | None = None
    retry_at: int | None = None
    host_id: str | None = None
    token: str | None = None
    claimed_at: int | None = None
    deadline: int | None = None


class Line(NamedTuple):
    """One change: what a row was, and what it became."""

    id: ArtifactId
    old: Seen | None
    new: Seen | None


# --- the log ------------------------------------------------------------------------------------


def watch(cache: Path) -> None:
    """Have every change of an artifact's row logged from now on."""
    columns = [f"{when}_{name}" for when in ("old", "new") for name in Seen._fields]
    nothing, old, new = (
        [f"{row}{name}" if row else "NULL" for name in Seen._fields] for row in ("", "old.", "new.")
    )
    with connected(cache) as connection:
        connection.execute(
            "CREATE TABLE torture_log (number INTEGER PRIMARY KEY AUTOINCREMENT,"
            f" code_hash, prep_hash, {', '.join(columns)})"
        )
        for event, row, values in (
            ("INSERT", "new", [*nothing, *new]),
            ("UPDATE", "new", [*old, *new]),
            ("DELETE", "old", [*old, *nothing]),
        ):
            connection.execute(
                f"CREATE TRIGGER torture_{event} AFTER {event} ON artifact BEGIN"
                f" INSERT INTO torture_log VALUES"
                f" (NULL, {row}.code_hash, {row}.prep_hash, {', '.join(values)}); END"
            )


def _taken(cache: Path) -> list[Line]:
    """Take what is in the log out of it, so that a long run needs no more room."""
    with connected(cache) as connection:
        rows = connection.execute("SELECT * FROM torture_log ORDER BY number").fetchall()
        if rows:
            connection.execute("DELETE FROM torture_log WHERE number <= ?", (rows[-1][0],))
    middle = 3 + len(Seen._fields)
    return [Line(ArtifactId(*row[1:3]), _seen(row[3:middle]), _seen(row[middle:])) for row in rows]


def _seen(values: tuple[Any, ...]) -> Seen | None:
    return None if values[0] is None else Seen(*values)


# --- the legal moves ----------------------------------------------------------------------------

Rule: TypeAlias = Callable[[Any, Any], bool]


def claimed(_: None, now: Seen) -> bool:
    return _is_claim(now) and now.num_failures == 0 and now.last_time_failed is None


def claimed_again(was: Seen, now: Seen) -> bool:
    # One that `retry` let be tried is due by any clock; that sets its failures to 0.
    is_due = was.retry_at is not None and was.retry_at <= (now.claimed_at or 0)
    due = is_due or (was.retry_at is not None and was.num_failures == 0)
    return due and _is_claim(now) and _changed(was, now) <= CLAIM


def taken_over(was: Seen, now: Seen) -> bool:
    fresh = now.token != was.token and now.path != was.path
    in_time = _is_late(was, now.claimed_at) or now.error_kind == "host_died"
    counted = now.num_failures == was.num_failures + 1 <= MAX_RETRIES
    return fresh and in_time and counted and _is_claim(now)


def extended(was: Seen, now: Seen) -> bool:
    return _changed(was, now) <= {"deadline"}


def published(was: Seen, now: Seen) -> bool:
    whole = bool(now.size and now.checksum and now.last_time_needed)
    forgiven = (now.num_failures, now.last_time_failed, now.error, now.retry_at) == (0, *[None] * 3)
    return now.path == was.path and whole and forgiven and _is_free(now)


def failed(was: Seen, now: Seen) -> bool:
    counted = now.num_failures == was.num_failures + 1
    given_up = now.num_failures <= MAX_RETRIES or now.retry_at is None
    late = now.error_kind != "deadline" or _is_late(was, now.last_time_failed)
    return counted and given_up and late and bool(now.error) and _is_free(now) and now.path is None


def restored(was: Seen, now: Seen) -> bool:
    again = was.last_time_failed is not None and now.path is None
    return again and _changed(was, now) <= CLAIM and _is_free(now)


def released(was: Seen, _: None) -> bool:
    return was.last_time_failed is None


def needed(was: Seen, now: Seen) -> bool:
    return _changed(was, now) <= {"last_time_needed"}


def retried(was: Seen, now: Seen) -> bool:
    claimable = now.num_failures == 0 and now.retry_at is not None
    return claimable and _changed(was, now) <= {"num_failures", "retry_at"}


def gone(_: Seen, __: None) -> bool:
    return True


# From which state to which, and by what: the first whose condition holds; none: illegal.
LEGAL: Mapping[tuple[str | None, str | None], Mapping[str, Rule]] = {
    (None, "preparing"): {"claim": claimed},
    ("preparing", "preparing"): {"extend": extended, "take over": taken_over},
    ("preparing", "prepared"): {"publish": published},
    ("preparing", "failed"): {"fail or reap": failed, "release, failed before": restored},
    ("preparing", None): {"release": released},
    ("prepared", "prepared"): {"need": needed},
    ("prepared", None): {"prune, remove or discard": gone},
    ("failed", "preparing"): {"claim again": claimed_again},
    ("failed", "failed"): {"retry": retried},
    ("failed", None): {"remove a failed one": gone},
}


def _is_claim(row: Seen) -> bool:
    return None not in (row.token, row.path, row.host_id, row.claimed_at, row.deadline)


def _is_free(row: Seen) -> bool:
    return (row.token, row.host_id, row.claimed_at, row.deadline) == (None,) * 4


def _is_late(row: Seen, when: int | None) -> bool:
    return (row.deadline or 0) <= (when or 0)


def _changed(was: Seen, now: Seen) -> set[str]:
    return {name for name in Seen._fields if getattr(was, name) != getattr(now, name)}


# --- the automaton ------------------------------------------------------------------------------


class Automaton:
    """What all artifacts are, by the log."""

    def __init__(self) -> None:
        self.makers: dict[ArtifactId, str] = {}  # whose claim it was that a published one came of
        self.moves: Counter[str] = Counter()
        self.said_dead: set[str] = set()  # hosts whose claims ended because they died
        self._seen: dict[ArtifactId, Seen] = {}
        self._used: set[str | None] = set()  # tokens and file names

    def follow(self, cache: Path) -> None:
        """Take what was logged since the last time; raises `Illegal`."""
        for line in _taken(cache):
            self.take(line)

    def take(self, line: Line) -> None:
        """Make one move; raises `Illegal`."""
        known, new = self._seen.get(line.id), line.new
        if line.old != known:
            raise Illegal(f"nothing said that it had become so, but {known}: {line}")
        self.moves[_move(line)] += 1
        if new is None:
            del self._seen[line.id]
            return
        self._seen[line.id] = new
        if new.state == "preparing" and (known is None or known.token != new.token):
            self._begin(new, line)
        if known is not None and known.state == "preparing":
            self._end(line.id, known, new)

    def _begin(self, claim: Seen, line: Line) -> None:
        names = {claim.token, claim.path}
        if names & self._used:
            raise Illegal(f"a claim has an old token or file name: {line}")
        self._used |= names

    def _end(self, id: ArtifactId, claim: Seen, new: Seen) -> None:
        if new.state == "prepared":
            self.makers[id] = str(claim.host_id)
        if new.error_kind == "host_died" and new.last_time_failed != claim.last_time_failed:
            self.said_dead.add(str(claim.host_id))


def _move(line: Line) -> str:
    states = (line.old and line.old.state, line.new and line.new.state)
    for name, holds in LEGAL.get(states, {}).items():
        if holds(line.old, line.new):
            return name
    raise Illegal(f"no event leads there: {line}")
