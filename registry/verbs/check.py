"""Reconcile rows and files: sweep, check, and repair.

References are exact: a prepared row refers to its file, a preparing one to its file and to that
name with `.tmp`, a failed one to nothing. So a file that is named like ours and that no row refers
to is garbage, without any guess about ages; provided that the folder is listed FIRST and the rows
are read after: a name is in a row before its file exists, so any name that was listed and is not
referred to afterwards will never be. The other order deletes live files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

from registry.artifact import ArtifactId, State, names
from registry.effects import ListNames, Sleep, Verb
from registry.errors import DatabaseDamaged
from registry.sql.queries import (
    ALIENS,
    CLAIMS_OF,
    CORRECT_FAILURE_USAGE,
    CORRECT_USAGE,
    DROP_ALIENS,
    FAILURE_SUMS,
    INTEGRITY,
    PATHS_PAGE,
    SUMS,
    WHOLE_PAGE,
    Row,
)
from registry.verbs.cache_identity import stranger
from registry.verbs.database import one, read, run
from registry.verbs.garbage import unlink_each
from registry.verbs.handle import Handle
from registry.verbs.hosts import dead_hosts, orphan_locks
from registry.verbs.lease import settle
from registry.verbs.need import discard, inspect

__all__ = ["CheckReport", "Problem", "drop_fileless", "inspect_all", "orphans", "sweep"]

_PAGE = 1000
_UNLINKING_SECONDS = 0.02  # some hundred times what unlinking a file takes


class Problem(NamedTuple):
    """One thing that is not as it should be; `subject` is an artifact, a file or a table."""

    kind: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found: `problems` are (kind, subject, message).

    `repaired` says that it was asked to repair what it found, and did.
    """

    problems: list[Problem]
    repaired: bool = False

    @property
    def ok(self) -> bool:
        """Whether there was nothing to find."""
        return not self.problems


def sweep(handle: Handle) -> Verb[list[str]]:
    """Unlink the files that no row refers to; raises `DatabaseDamaged` if they are not ours."""
    yield from settle(handle)
    problem = yield from stranger()
    if problem is not None:
        raise DatabaseDamaged(problem)
    garbage = yield from orphans()
    yield from unlink_each(garbage)
    return garbage


def orphans() -> Verb[list[str]]:
    """List the files that no row refers to."""
    unclaimed = set((yield from ListNames()))
    after = 0
    while unclaimed:
        page = yield from run(PATHS_PAGE, {"after_id": after, "most": _PAGE})
        for _, state, path in page:
            unclaimed.discard(path)
            if state == State.PREPARING:
                unclaimed.discard(f"{path}.tmp")
        if len(page) < _PAGE:
            break
        after = page[-1][0]
    return sorted(unclaimed)


def inspect_all(handle: Handle, repair: bool, checksums: bool) -> Verb[CheckReport]:
    """Compare the database with itself, with the living hosts and with the files."""
    found = yield from _check_integrity(repair)
    try:
        found += yield from _check_identity(repair)
        found += yield from _check_usage(repair)
        found += yield from _check_rows(repair)
        found += yield from _check_hosts(handle)
        found += yield from _check_files(handle, repair, checksums)
        for name in (yield from _lasting_orphans()):
            found.append(Problem("orphan_file", name, "no row refers to this file"))
    except DatabaseDamaged as damage:  # what cannot be read cannot be compared
        if repair or not found:
            raise
        problem = Problem("integrity", "registry.db", str(damage))
        return CheckReport(found if problem in found else [*found, problem])
    if repair and any(problem.kind == "integrity" for problem in found):
        repair = not (yield from _check_integrity(repair))  # a row may have gone, a page has not
    return CheckReport(found, repaired=repair)


def _lasting_orphans() -> Verb[list[str]]:
    """List the files that no row refers to and that nobody is about to unlink.

    Who prunes deletes many rows, then unlinks their files one by one. So it is looked again, for
    as long as they are getting fewer.
    """
    before, now = None, (yield from orphans())
    while now and now != before:
        yield from Sleep(_UNLINKING_SECONDS)
        before, now = now, sorted({*now} & {*(yield from orphans())})
    return now


def drop_fileless(handle: Handle) -> Verb[None]:
    """Drop the prepared rows whose files are missing or have another size."""
    yield from _check_files(handle, repair=True, checksums=False)


def _check_identity(repair: bool) -> Verb[list[Problem]]:
    problem = yield from stranger()
    if problem is not None and repair:
        raise DatabaseDamaged(problem)
    return [] if problem is None else [Problem("identity", "cache.id", problem)]


def _check_integrity(repair: bool) -> Verb[list[Problem]]:
    try:
        lines = yield from run(INTEGRITY, {})
    except DatabaseDamaged as damage:  # beyond what SQLite has words for
        if repair:
            raise
        return [Problem("integrity", "registry.db", str(damage))]
    return [Problem("integrity", "registry.db", line) for (line,) in lines if line != "ok"]


# What triggers keep: its sum, how to write it anew, and the table that has it.
_KEPT_SUMS = (
    (SUMS, CORRECT_USAGE, "usage"),
    (FAILURE_SUMS, CORRECT_FAILURE_USAGE, "failure_usage"),
)


def _check_usage(repair: bool) -> Verb[list[Problem]]:
    found = []
    for sums, correct, table in _KEPT_SUMS:
        count, size, true_count, true_size = yield from one(sums, {})
        if (count, size) == (true_count, true_size):
            continue
        words = f"says {count} of {size} bytes; the rows say {true_count} of {true_size} bytes"
        found.append(Problem("usage", table, words))
        if repair:
            yield from run(correct, {})
    return found


def _check_rows(repair: bool) -> Verb[list[Problem]]:
    aliens = [row_id for (row_id,) in (yield from run(ALIENS, {}))]
    if repair and aliens:
        yield from run(DROP_ALIENS, {"ids": json.dumps(aliens)})
    words = "its hashes or its state are none: no version of registry wrote it"
    return [Problem("alien_row", f"artifact.id = {row_id}", words) for row_id in aliens]


def _check_hosts(handle: Handle) -> Verb[list[Problem]]:
    found = []
    dead = yield from dead_hosts(handle)
    for host_id in dead:
        found.append(Problem("dead_host", host_id, "this host is dead, and not reaped yet"))
        for row in (yield from run(CLAIMS_OF, {"seen_host": host_id})):
            words = f"its claimant, host {host_id}, is dead"
            found.append(Problem("abandoned_claim", _name(Row(*row)), words))
    for host_id in (yield from orphan_locks(handle)):
        if host_id not in dead:
            found.append(Problem("orphan_lock", f"{host_id}.lock", "no host has this lock file"))
    return found


def _check_files(handle: Handle, repair: bool, checksums: bool) -> Verb[list[Problem]]:
    found: list[Problem] = []
    after = 0
    while True:
        page = yield from run(WHOLE_PAGE, {"after_id": after, "most": _PAGE})
        for raw in page:
            problem = yield from _check_file(handle, Row(*raw), repair, checksums)
            found += [] if problem is None else [problem]
        if len(page) < _PAGE:
            return found
        after = page[-1][0]


def _check_file(handle: Handle, row: Row, repair: bool, checksums: bool) -> Verb[Problem | None]:
    if not names(row.code_hash, row.prep_hash):
        return None  # reported already
    fault = (yield from inspect(handle, row, checksums=checksums)).fault
    if fault is None:
        return None
    now = yield from read(ArtifactId(row.code_hash, row.prep_hash))
    if now is None or now.path != row.path or now.state != State.PREPARED:
        return None  # pruned or replaced while we looked
    if repair:
        yield from discard(handle, row, fault)
    return Problem(f"{fault}_file", _name(row), f"the file {row.path!r} is {fault}")


def _name(row: Row) -> str:
    return f"{row.code_hash}/{row.prep_hash}"
