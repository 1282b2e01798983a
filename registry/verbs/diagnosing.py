"""What the database, the hosts and the files say to a doctor."""

from __future__ import annotations

from dataclasses import dataclass

from registry.artifact import Artifact
from registry.effects import Now, Verb
from registry.sql.queries import FAILED_AS, JOURNAL_MODE, REVISION, WORKING_SET, Row
from registry.verbs.asking import one, run
from registry.verbs.handle import Handle
from registry.verbs.hosting import dead_hosts, orphan_locks
from registry.verbs.identity import stranger
from registry.verbs.journal import Rebuilt, rebuilt_lately
from registry.verbs.pruning import Usage, read_usage
from registry.verbs.reconciling import orphans
from registry.verbs.words import HOST_DIED

__all__ = ["Diagnosis", "diagnose"]

_EXAMPLES = 10


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


def diagnose(handle: Handle) -> Verb[Diagnosis]:
    """Ask everything; grows with the number of files, for orphans are looked for."""
    usage = yield from read_usage(handle)
    since = (yield from Now()) - usage.min_stale_time
    _, working_set = yield from one(WORKING_SET, {"since": since})
    killers = yield from run(FAILED_AS, {"kind": HOST_DIED.kind, "most": _EXAMPLES})
    gone = {*(yield from dead_hosts(handle)), *(yield from orphan_locks(handle))}
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
    )
