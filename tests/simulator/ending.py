"""How a simulated run ends: all verbs run out, hosts go, one fresh host maintains, all is audited.

Whatever went wrong before, nothing may then be lost and nothing may be left over.
"""

from __future__ import annotations

import os
from typing import Any

from registry.verbs import maintaining, publishing
from registry.verbs.reconciling import CheckReport

from .host import Host
from .invariants import Promise, Violation
from .machine import Machine
from .task import Ended

__all__ = ["finish"]


def finish(machine: Machine, *, closing: int = 0) -> None:
    """Bring a run to its end; of its hosts every second one closes, the others are killed."""
    for host in machine.living():
        _give_back(machine, host)
    machine.drain()
    for number, host in enumerate(machine.living()):
        if (number + closing) % 2:
            machine.close_host(host, maintaining.close(host.handle))
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
    machine.close()


def _give_back(machine: Machine, host: Host) -> None:
    at_work = [task.lease for task in machine.tasks]
    for lease in [lease for lease in host.leases if lease not in at_work]:
        machine.begin("release", host, publishing.release(host.handle, lease), lease=lease)


def _ask(machine: Machine, host: Host, *, repair: bool) -> CheckReport:
    reports: list[Ended] = []
    verb = maintaining.check(host.handle, repair=repair, checksums=True)
    machine.begin("check", host, verb, reports.append)
    machine.drain()
    report = reports[0].value
    if not isinstance(report, CheckReport):
        raise Violation(Promise.NOTHING_LEAKED, f"check ended with {reports[0]}")
    return report


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
