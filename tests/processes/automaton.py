"""Log every change of every row, and see that each was a legal move of an artifact.

The triggers are the test's, not the product's: they are made in the database of one test, and write
what a row was and what it became within the transaction that changed it. So the log is in the order
of the commits, whatever process made them, and it has no gaps: what a row was is what the line
before said that it became. The moves are those of `registry.transitions.MOVES`; what must hold for
each of them is said here once more, in other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from processes.traces import connected
from registry import ArtifactId, State
from registry.transitions import MOVES

__all__ = ["Automaton", "Illegal", "Line", "Seen", "watch"]

COLUMNS = ("state", "token", "path", "num_failures", "host_id", "checksum")
LOG = f"""
CREATE TABLE torture_log (number INTEGER PRIMARY KEY AUTOINCREMENT, code_hash, prep_hash,
                          {", ".join(f"old_{c}, new_{c}" for c in COLUMNS)})"""
TRIGGER = """
CREATE TRIGGER torture_{event} AFTER {event} ON artifact BEGIN
  INSERT INTO torture_log (code_hash, prep_hash, {columns})
  VALUES ({row}.code_hash, {row}.prep_hash, {values});
END"""
LEGAL = {(source, move.target) for move in MOVES.values() for source in move.sources}


class Illegal(AssertionError):
    """A row changed in a way that no artifact does."""


class Seen(NamedTuple):
    """What the log says of a row at one moment; no row at all is None."""

    state: State
    token: str | None = None
    path: str | None = None
    num_failures: int = 0
    host_id: str | None = None
    checksum: str | None = None


class Line(NamedTuple):
    """One change: what a row was, and what it became."""

    id: ArtifactId
    old: Seen | None
    new: Seen | None


def watch(cache: Path) -> None:
    """Have every change of an artifact's row logged from now on."""
    with connected(cache) as connection:
        connection.execute(LOG)
        for event, rows in (("INSERT", ("new",)), ("UPDATE", ("old", "new")), ("DELETE", ("old",))):
            pairs = [(row, column) for column in COLUMNS for row in rows]
            connection.execute(
                TRIGGER.format(
                    event=event,
                    row=rows[-1],
                    columns=", ".join(f"{row}_{column}" for row, column in pairs),
                    values=", ".join(f"{row}.{column}" for row, column in pairs),
                )
            )


class Automaton:
    """What all artifacts are, by the log; `checksums` says what each must hold once prepared."""

    def __init__(self, checksums: Mapping[ArtifactId, str]) -> None:
        self._checksums = checksums
        self._seen: dict[ArtifactId, Seen] = {}
        self._used: set[str | None] = {None}  # tokens and file names: none may come twice
        self.moves: Counter[tuple[State | None, State | None]] = Counter()

    def follow(self, cache: Path) -> int:
        """Take what was logged since the last time; how many changes there were in all.

        Raises `Illegal`. What was taken is deleted, so that a long run needs no more room.
        """
        for line in _taken(cache):
            self.take(line)
        return self.moves.total()

    def take(self, line: Line) -> None:
        """Make one move; raises `Illegal`."""
        source, target = _state(line.old), _state(line.new)
        fault = self._fault(line, source, target)
        if fault is not None:
            raise Illegal(f"{fault}: {line}")
        self.moves[source, target] += 1
        if line.new is None:
            del self._seen[line.id]
        else:
            self._seen[line.id] = line.new
            self._used |= {line.new.token, line.new.path}

    def _fault(self, line: Line, source: State | None, target: State | None) -> str | None:
        old, new = line.old, line.new
        if old != self._seen.get(line.id):
            return f"nothing said that it had become so, but {self._seen.get(line.id)}"
        if (source, target) not in LEGAL:
            return "no event leads there"
        if new is None:
            return None
        if new.state == State.PREPARING:
            return self._fault_of_claim(old, new)
        if new.state == State.PREPARED:
            return self._fault_of_prepared(line.id, old, new)
        return _fault_of_failed(old, new)

    def _fault_of_claim(self, old: Seen | None, new: Seen) -> str | None:
        if old is not None and old.token == new.token:
            return None if old == new else "an extension changed more than a deadline"
        if {new.token, new.path} & self._used:
            return "a claim has an old token or file name"
        lost = old is not None and old.state == State.PREPARING
        failures = 0 if old is None else old.num_failures + lost
        return None if new.num_failures == failures else "failures were miscounted at a claim"

    def _fault_of_prepared(self, id: ArtifactId, old: Seen | None, new: Seen) -> str | None:
        if old is None or old.path != new.path:
            return "the file is not the one that was claimed"
        if (new.token, new.num_failures) != (None, 0):
            return "a prepared artifact is still claimed, or failed"
        return None if new.checksum == self._checksums[id] else "it holds the bytes of another"


def _fault_of_failed(old: Seen | None, new: Seen) -> str | None:
    if (new.token, new.path) != (None, None):
        return "a failed artifact still has a claim or a file"
    before = 0 if old is None else old.num_failures
    retried = old is not None and old.state == State.FAILED and new.num_failures == 0
    if new.num_failures in (before, before + 1) or retried:
        return None
    return "failures were miscounted at a failure"


def _state(seen: Seen | None) -> State | None:
    return None if seen is None else seen.state


def _taken(cache: Path) -> list[Line]:
    with connected(cache) as connection:
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute("SELECT * FROM torture_log ORDER BY number").fetchall()
        connection.execute("DELETE FROM torture_log")
        connection.execute("COMMIT")
    return [Line(ArtifactId(*row[1:3]), _seen(row[3::2]), _seen(row[4::2])) for row in rows]


def _seen(values: tuple[str | int | None, ...]) -> Seen | None:
    return None if values[0] is None else Seen(State(str(values[0])), *values[1:])  # type: ignore[arg-type]
