"""Torture: processes that do everything at once are killed and stopped, and their moves are judged.

Whoever is killed is replaced, so the last ones are killed in the middle of something too. Whoever
is stopped keeps its locks, SQLite's write lock perhaps, and goes on later, or is killed as it
stands: its claims may be taken over meanwhile, and what it then publishes comes too late. What an
artifact holds proves whose it is (`proof.py`), and every reader looks (`labour.py`). Every change
of every row is followed by an automaton (`automaton.py`).

The test and the long form, `python -m benchmarks torture --seconds N`, are this one program.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path

from processes.automaton import Automaton, watch
from processes.crew import Child, Crew
from processes.labour import labours
from processes.proof import maker_of
from processes.traces import assert_clean, code_id, query
from registry import Registry

__all__ = ["Tally", "torture", "wal_size"]

# The mean number of verbs that all do together between two blows, and how long to wait for one of
# them: nobody gets on while a stopped process holds the write lock.
VERBS_BETWEEN_BLOWS = 25
SILENCE_SECONDS = 0.05
BLOWS_BETWEEN_READINGS = 10


@dataclass
class Tally:
    """How much was done, and what was seen."""

    kills: int = 0
    stops: int = 0
    verbs: int = 0
    moves: Counter[str] = field(default_factory=Counter)
    longest_wal: int = 0
    began: float = field(default_factory=time.monotonic)
    prepared: int = 0  # when all was over

    @property
    def transitions(self) -> int:
        """Changes of a row by a legal move; a need of what is prepared is none of them."""
        return self.moves.total() - self.moves["need"]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def torture(
    crew: Crew,
    cache: Path,
    *,
    until: Callable[[Tally], bool],
    processes: int = 8,
    keys: int = 40,
    seed: int = 0,
) -> Tally:
    """Torture a cache until it is enough; raises whatever is wrong, then or at any moment before.

    What a child raises is raised here. The blows follow from the seed, their moments do not.
    """
    with Registry(cache) as registry:
        registry.configure(
            prepare_timeout=timedelta(seconds=1), retry_cooldown=timedelta(milliseconds=5)
        )
    watch(cache)
    rack = _Rack(crew, cache, keys, random.Random(seed), processes)
    while not until(rack.tally):
        rack.turn()
    rack.release()
    rack.audit()
    return rack.tally


class _Rack:
    def __init__(
        self, crew: Crew, cache: Path, keys: int, chance: random.Random, processes: int
    ) -> None:
        self.tally = Tally()
        self._crew, self._cache, self._keys, self._chance = crew, cache, keys, chance
        self._automaton = Automaton()
        self._children: list[Child] = [self._start() for _ in range(processes)]
        self._stopped: list[Child] = []

    def turn(self) -> None:
        """Let all get on a little, and then deal a few blows and look what came of them."""
        for _ in range(BLOWS_BETWEEN_READINGS):
            self._let_work(self._chance.randrange(2 * VERBS_BETWEEN_BLOWS))
            (blow,) = self._chance.choices((self._kill, self._stop, self._go_on), (10, 3, 4))
            blow()
            self.tally.longest_wal = max(self.tally.longest_wal, wal_size(self._cache))
        while self._stopped:  # one may have the write lock, or be in the middle of the WAL's index
            self._go_on()
        self._judge()

    def release(self) -> None:
        """End it: all are killed, whatever they are doing."""
        for child in self._children:
            self.tally.verbs += sum(self._crew.bury(child))
        self._judge()

    def audit(self) -> None:
        """See that nothing of the dead is left, and that what is prepared is what was published."""
        artifacts = assert_clean(self._cache)
        self._judge()
        self.tally.prepared = len(artifacts)
        keys = {code_id(key): key for key in range(self._keys)}
        files = {a.path.name: a for a in artifacts if a.path is not None}
        assert {*os.listdir(self._cache / "artifacts")} == files.keys()
        for artifact in files.values():
            assert artifact.path is not None
            maker = maker_of(keys[artifact.id], artifact.path.read_bytes())
            assert maker == self._automaton.makers[artifact.id]
        spoilt = "SELECT event FROM history WHERE event IN ('missing', 'damaged', 'hostile')"
        assert query(self._cache, spoilt) == []

    # --- blows ----------------------------------------------------------------------------------

    def _kill(self) -> None:
        child = self._chance.choice(self._children)
        self._children.remove(child)
        if child in self._stopped:
            self._stopped.remove(child)
        self.tally.verbs += sum(self._crew.bury(child))
        self.tally.kills += 1
        self._children.append(self._start())

    def _stop(self) -> None:
        running = [child for child in self._children if child not in self._stopped]
        if running:
            child = self._chance.choice(running)
            child.stop()
            self._stopped.append(child)
            self.tally.stops += 1

    def _go_on(self) -> None:
        if self._stopped:
            self._stopped.pop(0).go_on()

    # --- what comes of them ---------------------------------------------------------------------

    def _start(self) -> Child:
        return self._crew.start(labours, self._cache, self._keys, self._chance.random())

    def _let_work(self, verbs: int) -> None:
        """Wait until so many verbs are done, or nobody does any for a moment."""
        pipes = {child.pipe: child for child in self._children}
        heard = 0
        while heard <= verbs and (ready := wait([*pipes], SILENCE_SECONDS)):
            for pipe in ready:
                heard += pipes[pipe].hear()  # type: ignore[index]
        self.tally.verbs += heard

    def _judge(self) -> None:
        """Follow what was logged; who is said there to be dead must be dead."""
        self._automaton.follow(self._cache)
        self.tally.moves = self._automaton.moves
        for host_id in self._automaton.said_dead:
            assert not _holds_its_lock(self._cache, host_id), f"{host_id} lives"
        self._automaton.said_dead.clear()


def wal_size(cache: Path) -> int:
    """How many bytes the -wal file has."""
    with suppress(FileNotFoundError):
        return (cache / "registry.db-wal").stat().st_size
    return 0


def _holds_its_lock(cache: Path, host_id: str) -> bool:
    """Ask the kernel, not the product, whether a host lives; none comes to life again.

    Whoever clears up after a dead one holds its lock as well, and may be stopped while it does: so
    it matters which process has it.
    """
    try:
        inode = (cache / "hosts" / f"{host_id}.lock").stat().st_ino
    except FileNotFoundError:
        return False
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = {int(lock[4]) for lock in locks if lock[1] == "FLOCK" and _inode(lock[5]) == inode}
    own = query(cache, "SELECT pid FROM host_history WHERE id = ?", host_id)
    return any(pid in holders for (pid,) in own)


def _inode(device_and_inode: str) -> int:
    return int(device_and_inode.rpartition(":")[2])
