"""How a simulated run ends: all verbs run out, hosts go, one fresh host maintains, all is audited.

Whatever went wrong before, nothing may then be lost and nothing may be left over.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from registry import ArtifactId
from registry.sql.queries import Row
from registry.verbs import claim, maintenance, publish
from registry.verbs.check import CheckReport
from registry.verbs.handle import Lease

from .host import Host
from .invariants import Promise, Violation
from .machine import Machine
from .task import Ended

__all__ = ["finish"]

MINUTE = 60 * 1_000_000


def finish(machine: Machine, *, closing: int = 0) -> None:
    """Bring a run to its end; of its hosts every second one closes, the others are killed."""
    machine.drain()
    _require_no_claim_ahead(machine)
    for host in machine.living():
        _give_back(machine, host)
    machine.drain()
    for number, host in enumerate(machine.living()):
        if (number + closing) % 2:
            machine.close_host(host, maintenance.close(host.handle))
        else:
            machine.kill(host)
    machine.drain()
    fresh = machine.open_host()
    machine.drain()
    _ask(machine, fresh, repair=True)
    report = _ask(machine, fresh, repair=False)
    if not report.ok:
        raise Violation(Promise.NOTHING_LEAKED, f"after maintenance: {report.problems}")
    _audit(machine, fresh)
    _require_nothing_blocked(machine, fresh)
    machine.close()


def _give_back(machine: Machine, host: Host) -> None:
    at_work = [task.lease for task in machine.tasks]
    for lease in [lease for lease in host.leases if lease not in at_work]:
        machine.begin("release", host, publish.release(host.handle, lease), lease=lease)


def _ask(machine: Machine, host: Host, *, repair: bool) -> CheckReport:
    reports: list[Ended] = []
    verb = maintenance.check(host.handle, repair=repair, checksums=True)
    machine.begin("check", host, verb, reports.append)
    machine.drain()
    report = reports[0].value
    if not isinstance(report, CheckReport):
        raise Violation(Promise.NOTHING_LEAKED, f"check ended with {reports[0]}")
    return report


def _require_no_claim_ahead(machine: Machine) -> None:
    """Whoever asks for what a living host prepares waits no longer than the claim was to hold."""
    asking = machine.open_host()
    machine.drain()
    for row in machine.witness.world.rows.values():
        if row.state == "preparing":
            _claim(machine, asking, row)
    for row in machine.witness.world.rows.values():
        claimed, deadline = row.claimed_at or 0, row.deadline or 0
        if row.state == "preparing" and deadline > claimed > machine.clock.wall + MINUTE:
            raise Violation(Promise.NOT_BLOCKED, f"{row} is claimed in the future")
    _give_back(machine, asking)
    machine.drain()


def _require_nothing_blocked(machine: Machine, host: Host) -> None:
    """Each failure may be tried now, or after the longest cooldown; all may be pruned within a day.

    What lies ahead now may be just as recent then: it must go at one of the two times.
    """
    waiting = [row for row in _failed(machine) if not _may_be_claimed(machine, host, row)]
    machine.clock.pass_by(15 * MINUTE + MINUTE)
    for row in waiting:
        if not _may_be_claimed(machine, host, row):
            raise Violation(Promise.NOT_BLOCKED, f"{row} may not be tried again")
    for micros in (0, 24 * 60 * MINUTE + MINUTE):
        machine.clock.pass_by(micros)
        machine.begin("prune", host, maintenance.prune(host.handle, 0, timedelta(days=1)))
        machine.drain()
    left = [row for row in machine.witness.world.rows.values() if row.state == "prepared"]
    if left:
        raise Violation(Promise.NOT_BLOCKED, f"{left} may not be pruned")


def _failed(machine: Machine) -> list[Row]:
    rows = machine.witness.world.rows.values()
    return [row for row in rows if row.state == "failed" and row.retry_at is not None]


def _may_be_claimed(machine: Machine, host: Host, row: Row) -> bool:
    return isinstance(_claim(machine, host, row), Lease)


def _claim(machine: Machine, host: Host, row: Row) -> Any:
    ended: list[Ended] = []

    def hold(end: Ended) -> None:
        ended.append(end)
        if isinstance(end.value, Lease):
            host.leases.append(end.value)

    named = ArtifactId(row.code_hash, row.prep_hash)
    machine.begin("claim", host, claim.claim(host.handle, named), hold)
    machine.drain()
    return ended[0].value


def _audit(machine: Machine, last: Host) -> None:
    """Compare what is there with what may be there, by looking at everything anew."""
    witness = machine.witness
    world = witness.look_again()
    for row in world.rows.values():
        if row.state == "preparing":
            raise Violation(Promise.NOTHING_LEAKED, f"{row} is prepared by nobody")
    _same("files", world.files.keys(), {row.path for row in world.rows.values() if row.path})
    _same("locks", os.listdir(witness.cache / "hosts"), {f"{last.id}.lock"})
    _same("hosts", (row[0] for row in witness.ask("SELECT id FROM host")), {last.id})
    _same("workers", os.listdir(witness.cache / "workers"), set())
    if witness.model.rows != world.rows:
        raise Violation(Promise.NOTHING_LOST, "the rows are not those of the model")


def _same(what: str, found: Any, expected: set[Any]) -> None:
    if set(found) != expected:
        raise Violation(Promise.NOTHING_LEAKED, f"{what}: {set(found)} instead of {expected}")
