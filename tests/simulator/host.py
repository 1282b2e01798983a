"""A simulated host: the product's handle, database and locks, on clocks and chance of our own."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import shake_128
from pathlib import Path
from typing import Any
from unittest.mock import patch

from registry import CleanupConfig, RetryPolicy
from registry.effects import Draw, Elapsed, Now
from registry.opening.cache import database_path
from registry.verbs.handle import Handle, Lease
from registry.world import hosts as locks
from registry.world.database import Database
from registry.world.world import World

__all__ = ["Chance", "Clock", "Host", "Signal"]

STEP_MICROS = 50  # about what an effect takes


@dataclass
class Clock:
    """The two clocks of the machine: the time of day, which may jump, and the one for waiting."""

    wall: int = 1_700_000_000_000_000
    elapsed: float = 0.0

    def pass_by(self, micros: int) -> None:
        self.wall += micros
        self.elapsed += micros / 1e6


@dataclass
class Chance:
    """Names and tokens that look random, never repeat, and are the same in every replay."""

    drawn: int = 0

    def hex(self, size: int) -> str:
        self.drawn += 1
        return shake_128(str(self.drawn).encode()).hexdigest(size)


class Signal:
    """What wakes a sleeping verb; the machine looks at it, nobody blocks."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    def clear(self) -> None:
        self.is_set = False


class InOrder(dict[Any, None]):
    """A set that iterates in the order of its making, so that a seed replays exactly."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


class SimulatedWorld(World):
    """The real files and locks; simulated clocks and chance."""

    def __init__(self, cache: Path, clock: Clock, chance: Chance) -> None:
        with patch.object(locks, "token_hex", chance.hex):
            super().__init__(cache)
        self._performers |= {
            Now: lambda _: clock.wall,
            Elapsed: lambda _: clock.elapsed,
            Draw: lambda effect: chance.hex(effect.size),
        }


@dataclass(eq=False)
class Host:
    """One open handle, what it needs of the world, and the claims that its user holds."""

    name: str
    world: SimulatedWorld
    database: Database
    handle: Handle
    leases: list[Lease] = field(default_factory=list)
    usable: bool = False  # once it is entered, until it closes
    alive: bool = True

    @classmethod
    def open(
        cls,
        name: str,
        cache: Path,
        clock: Clock,
        chance: Chance,
        cleanup: CleanupConfig | None = None,
        retry: RetryPolicy | None = None,
    ) -> Host:
        """Take a lock and open the database; the host's row is a verb's to write."""
        world = SimulatedWorld(cache, clock, chance)
        database = Database(database_path(cache))
        # A power cut is modelled for a -wal file that only grows.
        database._checkpointer.due = lambda: False  # type: ignore[method-assign]
        handle = Handle(world.lock.host_id, cache, cleanup, retry, Signal)
        handle.waiting._tickets = InOrder()  # type: ignore[assignment]
        return cls(name, world, database, handle)

    @property
    def id(self) -> str:
        return self.handle.host_id

    def close(self) -> None:
        """What the driver does once the verb `close` has run."""
        self.usable = self.alive = False
        self.database.close()
        self.world.close()

    def crash(self) -> None:
        """Be killed: the kernel closes the descriptors, and so lets go of the lock."""
        self.usable = self.alive = False
        self.database.close()
        self.world.abandon()
