"""A stage on which one verb is played: a cache in which there is something of everything.

FRESH nobody knows. PREPARED is prepared, FAILED may be tried again, ABANDONED was being prepared by
a host that was killed just before publishing. MINE is claimed by the actor, the only host alive.
There is more in the cache than its limit allows, and maintenance is due.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any

from registry import ArtifactId
from registry.effects import Verb
from registry.verbs import claim, listing, prepare
from registry.verbs import publish as publish_verb
from registry.verbs.handle import Lease

from .content import prepared_bytes
from .host import Host
from .machine import Machine
from .surroundings import picture, simulated

__all__ = ["ABANDONED", "FAILED", "FRESH", "MINE", "PREPARED", "staged"]

FRESH, PREPARED, FAILED, ABANDONED, MINE, OLD = (
    ArtifactId.of(code)
    for code in (b"fresh", b"prepared", b"failed", b"abandoned", b"mine", b"old")
)
HOUR = timedelta(hours=1) // timedelta(microseconds=1)
LIMITS = {"cache_limit": 300, "min_stale_time": timedelta(0), "prepare_timeout": timedelta(days=1)}


@contextmanager
def staged() -> Iterator[tuple[Machine, Host]]:
    """Set the stage; the actor has a claim of MINE, and the only other host is dead."""
    with simulated(_scenery()) as machine:
        machine.clock.pass_by(2 * HOUR)
        machine.chance.drawn = 1000  # beyond what the scenery drew
        with _still_living(machine):  # else the actor would reap at once
            actor = _opened(machine)
        actor.leases.append(_claimed(machine, actor, MINE))
        yield machine, actor


@cache
def _scenery() -> dict[str, bytes]:
    with simulated() as machine:
        host = _opened(machine)
        for artifact in (OLD, PREPARED):
            made = partial(prepared_bytes, artifact, host.id, 1)
            _do(machine, host, prepare.get_or_prepare(host.handle, artifact, made))
        failed = _claimed(machine, host, FAILED)
        _do(machine, host, publish_verb.fail(host.handle, failed, "no luck"))
        _do(machine, host, listing.configure(host.handle, LIMITS))
        abandoned = _claimed(machine, host, ABANDONED)
        data = prepared_bytes(ABANDONED, host.id, 2)
        publish = machine.begin("publish", host, publish_verb.publish(host.handle, abandoned, data))
        machine.step_to(publish, "publish")
        return picture(machine.witness.cache)


@contextmanager
def _still_living(machine: Machine) -> Iterator[None]:
    (lock,) = (machine.witness.cache / "hosts").iterdir()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _opened(machine: Machine) -> Host:
    host = machine.open_host()
    machine.drain()
    return host


def _claimed(machine: Machine, host: Host, id: ArtifactId) -> Lease:
    lease = _do(machine, host, claim.claim(host.handle, id))
    assert isinstance(lease, Lease)
    return lease


def _do(machine: Machine, host: Host, verb: Verb[Any]) -> Any:
    return machine.finish(machine.begin("stage", host, verb)).value
