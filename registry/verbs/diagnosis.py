"""What the database, the hosts and the files say to a doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from registry.artifact import Artifact
from registry.effects import Now, Verb
from registry.sql.queries import AHEAD, FAILED_AS, JOURNAL_MODE, PAGES, REVISION, WORKING_SET, Row
from registry.verbs.cache_identity import stranger
from registry.verbs.check import orphans
from registry.verbs.database import one, run
from registry.verbs.failures import FailureUsage, read_failure_usage
from registry.verbs.handle import Handle
from registry.verbs.history import Rebuilt, rebuilt_lately
from registry.verbs.hosts import dead_hosts, orphan_locks
from registry.verbs.prune import Usage, read_usage
from registry.verbs.text import HOST_DIED

__all__ = ["Ahead", "Diagnosis", "diagnose"]

_EXAMPLES = 10


class Ahead(NamedTuple):
    """How many times were written before the clock was set back, by what they are times of."""

    needs: int
    failures: int
    claims: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, without a judgement."""

    journal_mode: str
    revision: str
    identity_problem: str | None
    orphan_files: int
    dead_hosts: int
    usage: Usage
    working_set_bytes: int
    rebuilt_lately: Rebuilt
    killed_their_host: tuple[Artifact, ...]
    ahead: Ahead
    failures: FailureUsage
    database_bytes: int
    free_bytes: int


def diagnose(handle: Handle) -> Verb[Diagnosis]:
    """Ask everything; grows with the number of files, for orphans are looked for."""
    usage = yield from read_usage(handle)
    now = yield from Now()
    _, working_set = yield from one(WORKING_SET, {"since": now - usage.min_stale_time, "now": now})
    killers = yield from run(FAILED_AS, {"kind": HOST_DIED.kind, "most": _EXAMPLES})
    gone = {*(yield from dead_hosts(handle)), *(yield from orphan_locks(handle))}
    size, free = yield from one(PAGES, {})
    return Diagnosis(
        journal_mode=(yield from one(JOURNAL_MODE, {}))[0],
        revision=(yield from one(REVISION, {}))[0],
        identity_problem=(yield from stranger()),
        orphan_files=len((yield from orphans())),
        dead_hosts=len(gone),
        usage=usage,
        working_set_bytes=working_set,
        rebuilt_lately=(yield from rebuilt_lately()),
        killed_their_host=tuple(handle.artifacts(Row(*row) for row in killers)),
        ahead=Ahead(*(yield from one(AHEAD, {"now": now}))),
        failures=(yield from read_failure_usage()),
        database_bytes=size,
        free_bytes=free,
    )
