"""The simulated machine: one thread, one directory, one database, and any number of hosts.

All that is real is the product's: the generators of `registry.verbs`, the database, the files, the
locks. Simulated are only the clocks, chance, and who goes next: one effect of one verb at a time.
At each effect the machine may let something go wrong, and after each a witness looks at the world.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from registry import CleanupConfig, RegistryError, RetryPolicy
from registry.effects import (
    INTERRUPTIBLE,
    Call,
    Effect,
    Interrupted,
    IsAlive,
    Now,
    Process,
    Run,
    Unlink,
    Verb,
)
from registry.verbs import hosts
from registry.verbs.handle import Lease
from registry.world.world import outcome_of

from .disk import Pick
from .faults import Fault, suffer
from .host import STEP_MICROS, Chance, Clock, Host
from .invariants import Promise, Step, Violation
from .task import Answer, Ended, Task, kind_of
from .witness import Witness

__all__ = ["Machine"]

_PROCESS = Process(1, "simulated", "simulator", "0")
OnEnd = Callable[[Ended], None]


class Machine:
    """A cache directory and the hosts that use it, stepped by whoever holds it."""

    def __init__(self, cache: Path) -> None:
        self.clock = Clock()
        self.chance = Chance()
        self.hosts: list[Host] = []
        self.tasks: list[Task] = []
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.steps = 0
        self.harmed: dict[str, int] = {}  # files damaged from outside, and when
        self.unlinked: dict[str, int] = {}  # files unlinked by a verb, and when
        self.last = Ended()  # how the last verb to end did so
        self.slandered: set[str] = set()  # hosts that were once said to be dead, and are not
        self.witness = Witness(cache, self.harmed)
        self._named = 0

    # --- hosts ----------------------------------------------------------------------------------

    def open_host(
        self, cleanup: CleanupConfig | None = None, retry: RetryPolicy | None = None
    ) -> Host:
        """Open a handle; it is usable once its verb `enter` has run."""
        self._named += 1
        cache = self.witness.cache
        host = Host.open(f"host{self._named}", cache, self.clock, self.chance, cleanup, retry)
        self.hosts.append(host)
        self.note(f"{host.name} opens")
        self.begin("enter", host, hosts.enter(host.handle, _PROCESS), self._entered(host))
        return host

    def close_host(self, host: Host, verb: Verb[None]) -> None:
        """Close a handle; nothing else may be under way in it."""
        host.usable = False
        host.leases.clear()
        self.begin("close", host, verb, lambda _: host.close())

    def kill(self, host: Host) -> None:
        """Kill a host, whatever it is doing."""
        self.counts["crashes"] += 1
        self.note(f"{host.name} is killed")
        host.crash()
        for task in [task for task in self.tasks if task.host is host]:
            self.tasks.remove(task)
            task.bury()
        host.leases.clear()

    def cut_power(self, pick: Pick) -> None:
        """Cut the power: every host dies, and the disk keeps what it must, or a little more."""
        self.counts["power cuts"] += 1
        self.note("the power is cut")
        target = self.witness.cache.with_name(f"cache{self.counts['power cuts']}")
        os.mkdir(target, 0o700)
        self.witness.disk.cut(target, pick)
        for host in self.living():
            self.kill(host)
        self.witness.close()
        self.witness = Witness(target, self.harmed)

    def living(self) -> list[Host]:
        return [host for host in self.hosts if host.alive]

    def busy(self, host: Host) -> bool:
        return any(task.host is host for task in self.tasks)

    def thought_alive(self, host_id: str) -> bool:
        """Whether nobody has reason to take a host for dead."""
        alive = any(host.alive and host.id == host_id for host in self.hosts)
        return alive and host_id not in self.slandered

    # --- verbs, one effect at a time ------------------------------------------------------------

    def begin(
        self,
        name: str,
        host: Host,
        verb: Verb[Any],
        on_end: OnEnd | None = None,
        lease: Lease | None = None,
    ) -> Task:
        """Start a verb: it runs to its first effect, which waits to be performed."""
        self._named += 1
        task = Task(f"{name}{self._named}", host, verb, on_end, lease)
        self.tasks.append(task)
        self.counts["verbs"] += 1
        self._after(task, task.begin(self.clock))
        return task

    def ready(self) -> list[Task]:
        """The verbs whose effect may be performed now; time passes if all sleep."""
        if self.tasks and not any(task.ready(self.clock) for task in self.tasks):
            wake = min(task.due for task in self.tasks)
            self.clock.pass_by(int((wake - self.clock.elapsed) * 1e6) + 1)
        return [task for task in self.tasks if task.ready(self.clock)]

    def step(self, task: Task, fault: Fault | None = None) -> None:
        """Perform the effect that a verb waits for, or let it go wrong, and run it to the next."""
        self._pass(task, fault)
        answer = self._answer(task, fault)
        self.note(f"{task}: {_brief(task.effect)} {fault or ''} {_brief_answer(answer)}")
        self._after(task, task.go_on(answer, self.clock))

    def interrupt(self, task: Task, *, performed: bool) -> None:
        """Interrupt a verb, as Ctrl-C does, during the effect that it waits for."""
        self.counts["interruptions"] += 1
        self._pass(task, None)
        if performed and not isinstance(task.effect, INTERRUPTIBLE):
            self._answer(task, None)
        self.note(f"{task}: {_brief(task.effect)} is interrupted")
        self._after(task, task.go_on(Answer(error=Interrupted()), self.clock))

    def step_to(self, task: Task, effect: str) -> None:
        """Run a verb until the next thing it wants is this effect, by the name of its kind."""
        while task in self.tasks and not task.wants(effect):
            self.step(task)
        assert task in self.tasks, f"{task} ended without {effect}:\n" + "\n".join(self.trace)

    def finish(self, task: Task) -> Ended:
        """Run a verb to its end, and nothing else."""
        while task in self.tasks:
            self.step(task)
        assert task.ended is not None
        return task.ended

    def drain(self, most: int = 20_000) -> None:
        """Run every verb to its end, in turn, with nothing going wrong."""
        for _ in range(most):
            ready = self.ready()
            if not ready:
                return
            for task in ready:
                if task in self.tasks:
                    self.step(task)
        raise Violation(Promise.ENDS, f"{[str(task) for task in self.tasks]} go on for ever")

    def _pass(self, task: Task, fault: Fault | None) -> None:
        self.steps += 1
        self.clock.pass_by(STEP_MICROS)
        if fault is not None:
            self.counts["faults"] += 1
            self.counts[f"fault: {fault}"] += 1
        if fault is Fault.LIE and isinstance(task.effect, IsAlive):
            self.slandered.add(task.effect.host_id)

    def _answer(self, task: Task, fault: Fault | None) -> Answer:
        assert task.effect is not None

        def perform(effect: Effect[Any]) -> Any:
            return self._perform(task, effect)

        try:
            if fault is None:
                return Answer(perform(task.effect))
            return Answer(suffer(fault, task.effect, perform))
        except Violation:
            raise
        except Exception as error:
            return Answer(error=error)

    def _perform(self, task: Task, effect: Effect[Any]) -> Any:
        if isinstance(effect, INTERRUPTIBLE):
            return outcome_of(effect.function) if isinstance(effect, Call) else None
        answer: Any
        if isinstance(effect, Run):
            answer = task.host.database.run(effect.statement, effect.params)
        else:
            answer = task.host.world.perform(effect)
        if isinstance(effect, Run) and effect.statement.writes and answer:
            self.counts[f"move: {effect.statement.name}"] += 1
        if isinstance(effect, Unlink):
            self.unlinked[effect.name] = self.steps
        if isinstance(effect, Now):
            task.latest = max(task.latest, answer)
        self.witness.saw(Step(task.host.id, effect, task.latest, self.thought_alive), answer)
        return answer

    def _after(self, task: Task, ended: Ended | None) -> None:
        if ended is None:
            return
        self.last = task.ended = ended
        self.tasks.remove(task)
        self.note(f"{task} ends: {ended}")
        if ended.error is not None and not issubclass(ended.error, RegistryError | OSError):
            raise Violation(Promise.DOCUMENTED, f"{task}: {ended}")
        if task.lease is not None and task.lease.ended and task.lease in task.host.leases:
            task.host.leases.remove(task.lease)
        if task.on_end is not None:
            task.on_end(ended)

    def _entered(self, host: Host) -> OnEnd:
        def settle(ended: Ended) -> None:
            if ended.error is None and not ended.interrupted:
                host.usable = True
            else:  # what opening a handle does when it fails
                host.close()

        return settle

    # --- the trace ------------------------------------------------------------------------------

    def harm(self, name: str, data: bytes | None) -> None:
        """Damage a file from outside: other bytes, or None to delete it."""
        self.counts["files damaged"] += 1
        self.witness.harm(name, data, self.steps)
        self.note(f"{name[:6]} is damaged")

    def note(self, words: str) -> None:
        """Write a line of the trace, the same wherever the cache of the run lies."""
        place = str(self.witness.cache)
        self.trace.append(f"{self.clock.wall} {words.replace(place, 'CACHE')}")

    def digest(self) -> str:
        """What tells one run from another."""
        return blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()

    def close(self) -> None:
        """Let go of everything; the directory is its maker's to remove."""
        for host in self.living():
            self.kill(host)
        self.witness.close()


def _brief(effect: Effect[Any] | None) -> str:
    assert effect is not None
    name = getattr(effect, "name", getattr(effect, "host_id", ""))
    return f"{kind_of(effect)} {name[:6]}{name[128:]}"


def _brief_answer(answer: Answer) -> str:
    if answer.error is not None:
        return f"! {type(answer.error).__name__}"
    return f"-> {len(answer.value)}" if isinstance(answer.value, list) else ""
