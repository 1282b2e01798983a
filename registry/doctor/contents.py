"""Findings about the database and the folders of an open cache."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from registry.artifact import Artifact
from registry.doctor.bounds import bounds
from registry.doctor.disk import room
from registry.doctor.finding import Finding, command, quoted
from registry.effects import Locked
from registry.opening.cache import database_path
from registry.opening.errors import worded
from registry.opening.migrate import HEAD
from registry.sizes import near_size
from registry.verbs.diagnosis import Diagnosis
from registry.verbs.history import Rebuilt
from registry.world.connection import connect, translated
from registry.world.mounts import mount_of

__all__ = ["contents", "names_of_database", "write_lock"]

PATIENCE_SECONDS = 2.0


def contents(cache: Path, diagnosis: Diagnosis) -> Iterator[Finding]:
    """Examine an open cache."""
    yield from _database(cache, diagnosis)
    leftovers = f"{diagnosis.orphan_files} files, {diagnosis.dead_hosts} dead hosts"
    if diagnosis.orphan_files or diagnosis.dead_hosts:
        advice = f"{command(cache, 'check', '--repair')}, or leave it to the hourly maintenance"
        yield Finding("orphans", leftovers, "note", advice)
    else:
        yield Finding("orphans", "none")
    yield from room(cache, diagnosis.usage)
    yield _limit(cache, diagnosis)
    yield _evictions(cache, diagnosis.rebuilt_lately)
    yield _killers(cache, diagnosis.killed_their_host)
    yield from bounds(cache, diagnosis)


def names_of_database(cache: Path) -> Finding:
    """Check that the database has one name; with two, each has its own journal."""
    path = Path(database_path(cache))
    if not os.path.lexists(path):
        return Finding("database", "does not exist yet")
    found = os.lstat(path)
    value = near_size(found.st_size)
    if found.st_nlink == 1:
        return Finding("database", value)
    point = mount_of(cache)[0] or "/"
    others = shlex.join(["find", point, "-xdev", "-samefile", str(path)])
    advice = (
        f"using two of them destroys it: `{others}` finds them; stop all hosts, and give "
        "each cache its own copy (`cp -a`, not `cp -al`)"
    )
    return Finding("database", f"{value}, has {found.st_nlink} names", "problem", advice)


def write_lock(cache: Path) -> Finding:
    """Check that another program does not block writes."""
    path = database_path(cache)
    with worded(path), closing(connect(path, timeout=PATIENCE_SECONDS)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not isinstance(translated(error, path), Locked):
                raise
            advice = (
                f"nothing can be prepared until then: `fuser -v {quoted(Path(path))}` names the "
                "processes; close a shell in a transaction, or a backup"
            )
            held = f"held by another process for more than {PATIENCE_SECONDS:.0f} s"
            return Finding("write lock", held, "problem", advice)
        connection.execute("ROLLBACK")
    return Finding("write lock", "available")


def _database(cache: Path, diagnosis: Diagnosis) -> Iterator[Finding]:
    mode = diagnosis.journal_mode
    if mode == "wal":
        yield Finding("journal", "WAL")
    else:
        database = quoted(cache / "registry.db")
        advice = f"stop all hosts, then `sqlite3 {database} 'PRAGMA journal_mode = WAL'`"
        yield Finding("journal", mode, "problem", advice)
    revision = diagnosis.revision
    if revision == HEAD:
        yield Finding("schema", f"revision {revision}")
    else:
        yield Finding("schema", f"revision {revision}, we know {HEAD}", "note", "upgrade registry")
    if diagnosis.identity_problem is None:
        yield Finding("identity", "the database and cache.id agree")
    else:
        yield Finding("identity", "mismatch", "problem", diagnosis.identity_problem)


def _limit(cache: Path, diagnosis: Diagnosis) -> Finding:
    held, limit = diagnosis.usage.bytes, diagnosis.usage.cache_limit
    needed = diagnosis.working_set_bytes
    lately = f"{near_size(needed)} of it needed lately"
    value = f"{near_size(held)} held, {lately}, limit {near_size(limit)}"
    figures = {"held": held, "needed_lately": needed, "limit": limit}
    if needed > limit:
        higher = command(cache, "config", "set", "cache_limit", "SIZE")
        advice = f"the limit is below the working set; raise it: {higher}"
        return Finding("limit", value, "problem", advice, figures)
    return Finding("limit", value, figures=figures)


def _evictions(cache: Path, again: Rebuilt) -> Finding:
    value = f"{again.count} prepared again within a day of it, since yesterday"
    if again.count:
        higher = command(cache, "config", "set", "cache_limit", "SIZE")
        cost = f"that took {again.seconds:.3g} s; raise the limit: {higher}"
        return Finding("evictions", value, "problem", cost)
    return Finding("evictions", value)


def _killers(cache: Path, killers: Sequence[Artifact]) -> Finding:
    names = ", ".join(map(str, killers)) or "none"
    given_up = [artifact.id.short for artifact in killers if artifact.retry_at is None]
    if given_up:
        advice = f"once you know why: {command(cache, 'retry', *given_up)}"
        return Finding("killed their host", names, "problem", advice)
    if killers:
        advice = "nothing: the next need prepares it again, a few times at most"
        return Finding("killed their host", names, "note", advice)
    return Finding("killed their host", names)
