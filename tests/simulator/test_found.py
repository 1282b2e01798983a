"""What the simulator found, each as the shortest story that shows it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from datetime import timedelta

import pytest

from registry.verbs import claim as claim_verb
from registry.verbs import hosts as hosts_verb
from registry.verbs import listing
from registry.verbs import publish as publish_verb
from registry.verbs.handle import Lease
from registry.world.hosts import Hosts

from .content import prepared_bytes
from .ending import finish
from .faults import Fault
from .host import Host
from .machine import Machine
from .schedule import ARTIFACTS
from .surroundings import simulated
from .users import Users

ID = ARTIFACTS[0]
SECOND = timedelta(seconds=1)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with simulated() as machine:
        yield machine


def opened(machine: Machine) -> Host:
    host = machine.open_host()
    machine.drain()
    return host


def claimed(machine: Machine, host: Host, timeout: timedelta | None = None) -> Lease:
    verb = claim_verb.claim(host.handle, ID, timeout)
    lease = machine.finish(machine.begin("claim", host, verb)).value
    assert isinstance(lease, Lease)
    return lease


def test_a_host_enters_although_the_database_reports_an_error_after_the_commit(
    machine: Machine,
) -> None:
    host = machine.open_host()
    (task,) = machine.tasks
    machine.step_to(task, "enter host")
    machine.step(task, Fault.COMMITTED)
    machine.drain()
    assert host.usable
    finish(machine)


def test_a_claim_found_late_and_extended_meanwhile_is_not_taken_over(machine: Machine) -> None:
    holder, rival = opened(machine), opened(machine)
    lease = claimed(machine, holder, SECOND)
    machine.clock.pass_by(2_000_000)
    claim = machine.begin("claim", rival, claim_verb.claim(rival.handle, ID))
    machine.step_to(claim, "take over")  # the rival has seen that the deadline has passed
    extend = publish_verb.extend(holder.handle, lease, timedelta(hours=1))
    assert machine.finish(machine.begin("extend", holder, extend)).error is None
    found = machine.finish(claim).value
    assert found.holder.host_id == holder.id
    publish = publish_verb.publish(holder.handle, lease, prepared_bytes(ID, holder.id, 1))
    assert machine.finish(machine.begin("publish", holder, publish)).error is None
    finish(machine)


def test_a_host_that_only_looks_dead_keeps_what_it_publishes_while_it_is_reaped(
    machine: Machine,
) -> None:
    holder, reaper = opened(machine), opened(machine)
    lease = claimed(machine, holder)
    reap = machine.begin("reap", reaper, hosts_verb.reap_dead(reaper.handle))
    machine.step_to(reap, "IsAlive")
    machine.step(reap, Fault.LIE)
    machine.step_to(reap, "reap host")  # it has read which claims it is going to end
    publish = publish_verb.publish(holder.handle, lease, prepared_bytes(ID, holder.id, 1))
    path = machine.finish(machine.begin("publish", holder, publish)).value.path
    machine.finish(reap)
    assert path.exists()
    finish(machine)


def test_an_artifact_that_is_removed_while_it_is_needed_may_be_answered_as_it_was(
    machine: Machine,
) -> None:
    """No path is pinned: the users of the simulator once took this for a broken promise."""
    maker, needer = opened(machine), opened(machine)
    data = prepared_bytes(ID, maker.id, 1)
    publish = publish_verb.publish(maker.handle, claimed(machine, maker), data)
    machine.finish(machine.begin("publish", maker, publish))
    Users(machine).need(needer, ID, 0)
    (need,) = machine.tasks
    machine.step_to(need, "MarkUse")  # its use is written: it was there
    machine.finish(machine.begin("remove", maker, listing.remove(maker.handle, ID)))
    found = machine.finish(need).value
    assert not found.path.exists()
    finish(machine)


def test_a_host_that_cannot_be_asked_counts_as_alive(machine: Machine) -> None:
    host = opened(machine)
    hosts = Hosts(machine.witness.cache / "hosts")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert hosts.is_alive(host.id)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        hosts.close()
