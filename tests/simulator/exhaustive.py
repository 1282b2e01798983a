"""All interleavings of a few verbs, with a crash at any point: a walk through every state.

A state is all that is shared, and how far each verb has come. How far a verb has come is a function
of the answers that it was given, for it does no I/O. So two ways that lead to the same state are
followed only once, and a way back costs little: the world takes back its last effect, and the verb
is begun anew and told the same answers.

What touches nothing shared (the clock, while it stands still; chance; the syncing of the folder) is
done along with what comes before it: it can make no difference to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import blake2b, shake_128
from pathlib import Path
from typing import Any, TypeAlias

from registry import effects as fx
from registry.effects import Effect, Verb
from registry.errors import RegistryError
from registry.verbs.check import drop_fileless, sweep
from registry.verbs.handle import Handle
from registry.verbs.hosts import orphan_locks, reap_dead

from .invariants import Promise, Violation, check_state
from .reversible import ReversibleWorld
from .surroundings import empty_cache
from .task import Answer, kind_of

__all__ = ["Case", "Figures", "walk"]

Program: TypeAlias = Callable[[Handle], Verb[Any]]

MINUTE = timedelta(minutes=1) // timedelta(microseconds=1)
LOCAL: tuple[type[Effect[Any]], ...] = (
    *(fx.Elapsed, fx.Draw, fx.BackOff, fx.GiveUpReserve, fx.RebuildReserve),
    *(fx.SyncFolder, fx.StoredIdentity),
)


@dataclass(frozen=True)
class Case:
    """Who does what, one host each; how many of them may be killed, and how often a minute passes.

    `before` is what a host has done, and is gone, before anything else. `lies`: how often a living
    host may look dead.
    """

    programs: Mapping[str, Program]
    before: Program | None = None
    kills: int = 0
    minutes: int = 0
    lies: int = 0


@dataclass
class Figures:
    """What a walk saw."""

    states: int = 0
    transitions: int = 0
    ends: int = 0


def walk(case: Case) -> Figures:
    """Walk through every state of a case; raises `Violation`, with the way to it as a note."""
    with empty_cache() as cache:
        walking = _Walk(ReversibleWorld(cache), case)
        try:
            walking.explore(case.kills, case.minutes, case.lies)
        except Violation as violation:
            violation.add_note("\n".join(walking.way))
            raise
        finally:
            walking.world.close()
        return walking.figures


class _Actor:
    """A host and its one verb, which can be taken back to any point."""

    def __init__(self, name: str, program: Program, cache: Path) -> None:
        self.name = name
        self.host_id = blake2b(name.encode(), digest_size=16).hexdigest()
        self.effect: Effect[Any] | None = None  # what it wants next; None: its verb has ended
        self._program = program
        self._cache = cache
        self._answers: list[Answer] = []
        self._verb: Verb[Any] | None = None
        self._digest = 0
        self._begin()

    def tell(self, answer: Answer) -> None:
        """Answer its effect."""
        if self._verb is None:
            self._begin()
        self._answers.append(answer)
        self._digest = hash((self._digest, _digest(answer)))
        self._go_on(answer)

    def draw(self, size: int) -> str:
        """What chance gives it here, whatever the others do."""
        seed = f"{self.name} {len(self._answers)}".encode()
        return shake_128(seed).hexdigest(size)

    def place(self) -> int | None:
        """How far it has come, as far as it matters for what may follow."""
        return None if self.effect is None else self._digest

    def bookmark(self) -> Callable[[], None]:
        """How to come back to here."""
        count, digest, effect = len(self._answers), self._digest, self.effect

        def back() -> None:
            del self._answers[count:]
            self._digest, self.effect, self._verb = digest, effect, None

        return back

    def _begin(self) -> None:
        self._verb = self._program(Handle(self.host_id, self._cache, None, None))
        self.effect = next(self._verb)
        for answer in self._answers:
            self._go_on(answer)

    def _go_on(self, answer: Answer) -> None:
        assert self._verb is not None
        try:
            if answer.error is None:
                self.effect = self._verb.send(answer.value)
            else:
                self.effect = self._verb.throw(answer.error)
        except (StopIteration, RegistryError):
            self.effect = None
        except Exception as error:
            raise Violation(Promise.DOCUMENTED, f"{self.name}: {error!r}") from error


class _Walk:
    def __init__(self, world: ReversibleWorld, case: Case) -> None:
        self.figures = Figures()
        self.world = world
        self.way: list[str] = []
        self._known: set[int] = set()
        self._local = LOCAL if case.minutes else (*LOCAL, fx.Now)
        if case.before is not None:
            self._alone("before", case.before)
        self._actors = [self._open(*named) for named in case.programs.items()]

    def explore(self, kills: int, minutes: int, lies: int) -> None:
        """Go every way from here."""
        running = [each for each in self._actors if each.effect and self._lives(each)]
        places = tuple(each.place() for each in self._actors)
        state = hash((self.world.state.digest(), places, kills, minutes, lies))
        if state in self._known:
            return
        self._known.add(state)
        self.figures.states += 1
        if not running:
            self._end()
            return
        for actor in running:
            self._way(actor, partial(self._step, actor), kills, minutes, lies)
            if kills:
                self._way(actor, partial(self._kill, actor), kills - 1, minutes, lies)
            if lies and isinstance(actor.effect, fx.IsAlive):
                self._way(actor, partial(self._lie, actor), kills, minutes, lies - 1)
        if minutes:
            self._way(running[0], self._pass_a_minute, kills, minutes - 1, lies)

    def _way(self, actor: _Actor, move: Callable[[], str], *left: int) -> None:
        mark, back = self.world.mark(), actor.bookmark()
        self.figures.transitions += 1
        self.way.append(f"{actor.name}: {actor.effect and kind_of(actor.effect)}")
        self.way[-1] += move()
        self.explore(*left)
        self.way.pop()
        self.world.back(mark)
        back()

    # --- moves ----------------------------------------------------------------------------------

    def _step(self, actor: _Actor) -> str:
        assert actor.effect is not None
        actor.tell(self._answer(actor, actor.effect))
        self._do_local(actor)
        return ""

    def _kill(self, actor: _Actor) -> str:
        self.world.kill(actor.host_id)
        return " is killed"

    def _lie(self, actor: _Actor) -> str:
        assert isinstance(actor.effect, fx.IsAlive)
        state = self.world.state
        self.world.state = replace(state, slandered=state.slandered | {actor.effect.host_id})
        actor.tell(Answer(False))
        self._do_local(actor)
        return " is wrong"

    def _pass_a_minute(self) -> str:
        self.world.state = replace(self.world.state, now=self.world.state.now + MINUTE)
        return " a minute passes"

    def _do_local(self, actor: _Actor) -> None:
        while isinstance(actor.effect, self._local) or _is_constant(actor.effect):
            assert actor.effect is not None
            actor.tell(self._answer(actor, actor.effect))

    def _answer(self, actor: _Actor, effect: Effect[Any]) -> Answer:
        if isinstance(effect, fx.Draw):
            return Answer(actor.draw(effect.size))
        try:
            return Answer(self.world.perform(actor.host_id, effect))
        except Violation:
            raise
        except Exception as error:
            return Answer(error=error)

    # --- hosts ----------------------------------------------------------------------------------

    def _open(self, name: str, program: Program) -> _Actor:
        actor = _Actor(name, program, self.world.cache)
        self.world.open_host(actor.host_id)
        self._do_local(actor)
        return actor

    def _alone(self, name: str, program: Program) -> None:
        """Let a host do something while nobody else does, and go."""
        actor = self._open(name, program)
        while actor.effect is not None:
            self._step(actor)
        self.world.kill(actor.host_id)

    def _lives(self, actor: _Actor) -> bool:
        return actor.host_id in self.world.state.living

    def _end(self) -> None:
        """Nobody does anything any more: let one maintain the cache, and see what is left."""
        self.figures.ends += 1
        mark = self.world.mark()
        living = self.world.state.living
        self._alone("last", _maintain)
        self._audit(living)
        self.world.back(mark)

    def _audit(self, living: frozenset[str]) -> None:
        state = self.world.state
        check_state(state.stored)
        rows = state.stored.rows.values()
        wanted = {row.path for row in rows if row.path is not None}
        if any(row.state == "preparing" and row.host_id not in living for row in rows):
            raise Violation(Promise.NOTHING_LEAKED, "a dead host's claim is left")
        if wanted != state.stored.files.keys():
            raise Violation(Promise.NOTHING_LEAKED, f"files {state.stored.files.keys()}")
        last = state.locks - living
        if len(last) != 1 or not state.hosts - last <= living:
            raise Violation(Promise.NOTHING_LEAKED, f"locks {last}, hosts {state.hosts}")


def _maintain(handle: Handle) -> Verb[None]:
    yield from reap_dead(handle)
    for host_id in (yield from orphan_locks(handle)):
        yield from fx.ForgetHost(host_id)
    yield from sweep(handle)
    yield from drop_fileless(handle)


def _is_constant(effect: Effect[Any] | None) -> bool:
    return isinstance(effect, fx.Run) and effect.statement.name == "identity"


def _digest(answer: Answer) -> int:
    """Tell answers apart, as far as a verb can: of a file's stat it is the size that matters."""
    value = getattr(answer.value, "st_size", answer.value)
    if isinstance(value, list):
        value = tuple(value)
    return hash((type(answer.error), value))
