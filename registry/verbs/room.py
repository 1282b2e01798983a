"""The waiting room of a handle: who waits for what, and who of them polls for all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from registry.artifact import ArtifactId
from registry.effects import Signal
from registry.queries import Row

__all__ = ["Ticket", "WaitingRoom"]


@dataclass(eq=False)
class Ticket:
    """One who waits, for one row; `answer` is that row once it has settled, None if it vanished."""

    id: ArtifactId
    row_id: int
    signal: Signal
    settled: bool = False
    answer: Row | None = None

    def settle(self, row: Row | None) -> None:
        self.answer = row
        self.settled = True
        self.signal.set()


class WaitingRoom:
    """All who wait through one handle. Threads share it, so each change is made under its lock."""

    def __init__(self, new_signal: Callable[[], Signal]) -> None:
        self._new_signal = new_signal
        self._lock = threading.Lock()
        self._tickets: set[Ticket] = set()
        self.entered = 0  # how many have ever come in
        self._leader: Ticket | None = None

    def enter(self, id: ArtifactId, row_id: int) -> Ticket:
        """Come in to wait for a row."""
        ticket = Ticket(id, row_id, self._new_signal())
        with self._lock:
            self._tickets.add(ticket)
            self.entered += 1
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Go; if it was the leader who went, wake another, who leads from now on.

        Were the heir merely woken, one that goes before it has taken over would leave nobody.
        """
        with self._lock:
            self._tickets.discard(ticket)
            if self._leader is not ticket:
                return
            heir = next((other for other in self._tickets if not other.settled), None)
            self._leader = heir
        if heir is not None:
            heir.signal.set()

    def leads(self, ticket: Ticket) -> bool:
        """Whether this one polls for all; the first to ask, where nobody does, will."""
        with self._lock:
            if self._leader is None:
                self._leader = ticket
            return self._leader is ticket

    def waiting(self) -> list[Ticket]:
        """Those whose row has not settled yet."""
        with self._lock:
            return [ticket for ticket in self._tickets if not ticket.settled]
