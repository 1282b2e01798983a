"""The waiting room of a handle: who waits for what, and who of them polls for all."""

from __future__ import annotations

import threading

from registry.artifact import ArtifactId
from registry.effects import Signal
from registry.sql.queries import Row

__all__ = ["Ticket", "WaitingRoom"]

# A leader asks whether it is one every 50 ms at least, unless the database is slow to answer; that
# two lead for a while does no harm.
LOST_AFTER_SECONDS = 2.0


class Ticket:
    """One who waits, for one row; `answer` is that row once it has settled, None if it vanished."""

    def __init__(self, id: ArtifactId, row_id: int, signal: Signal) -> None:
        self.id = id
        self.row_id = row_id
        self.signal = signal
        self.settled = False
        self.answer: Row | None = None

    def settle(self, row: Row | None) -> None:
        self.answer = row
        self.settled = True
        self.signal.set()


class WaitingRoom:
    """All who wait through one handle. Threads share it, so each change is made under its lock.

    A signal handler may come in while its own thread does: so the lock lets it, and nothing here
    walks through the set itself.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tickets: set[Ticket] = set()
        self.entered = 0  # how many have ever come in
        self._leader: Ticket | None = None
        self._led = 0.0  # when the leader was last heard of, in seconds

    def enter(self, ticket: Ticket) -> None:
        """Come in to wait for a row."""
        with self._lock:
            self._tickets.add(ticket)
            self.entered += 1

    def leave(self, ticket: Ticket) -> None:
        """Go; if it was the leader who went, wake another, who leads from now on.

        Were the heir merely woken, one that goes before it has taken over would leave nobody.
        """
        with self._lock:
            self._tickets.discard(ticket)
            if self._leader is not ticket:
                return
            heir = next((other for other in list(self._tickets) if not other.settled), None)
            self._leader = heir
        if heir is not None:
            heir.signal.set()

    def leads(self, ticket: Ticket, now: float) -> bool:
        """Whether this one polls for all; the first to ask, where nobody does, will.

        Nor does a leader that has not been heard of: Ctrl-C can keep one from leaving properly.
        """
        with self._lock:
            if self._leader is None or now - self._led > LOST_AFTER_SECONDS:
                self._leader = ticket
            if self._leader is ticket:
                self._led = now
            return self._leader is ticket

    def waiting(self) -> list[Ticket]:
        """Those whose row has not settled yet."""
        with self._lock:
            return [ticket for ticket in list(self._tickets) if not ticket.settled]
