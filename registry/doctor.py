"""What is well and what is not with a cache and the machine it is on, and what to do about it.

Asks SQLite through the handle, and the file system about everything else; the database's own files
are never opened here, for closing them would drop the locks that SQLite holds in this process.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from registry.artifact import Artifact
from registry.errors import CacheDirectoryRefused
from registry.migrate import HEAD
from registry.sizes import near_size
from registry.sync import Registry
from registry.verbs.diagnosing import Diagnosis
from registry.verbs.journal import Rebuilt
from registry.world import isolation
from registry.world.directory import NETWORK_FILE_SYSTEMS, file_system
from registry.world.hosts import Hosts

__all__ = ["Finding", "examine", "has_wal_reset_bug"]

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what it is, what was found, whether that is well, and what to do.

    `value` is for people; the sizes in it are exact, in bytes, in `figures`.
    """

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)


def examine(registry: Registry) -> list[Finding]:
    """Look at everything that a cache depends on; grows with the number of its files."""
    cache = registry.cache_dir
    diagnosis = registry.diagnose()
    return [*_machine(cache), *_database(cache, diagnosis), *_contents(cache, diagnosis)]


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether a version of SQLite can corrupt a WAL database when a checkpoint meets a writer.

    3.7.0 to 3.51.2, but for the releases that got the fix: 3.50.7 and 3.44.6.
    """
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    return not ((3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0))


def _machine(cache: Path) -> Iterator[Finding]:
    kind = file_system(cache)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding("file system", kind, "problem", "move the cache to a local disk")
    else:
        yield Finding("file system", kind)
    yield _directory(cache)
    yield _locks(cache)
    yield _confinement()


def _directory(cache: Path) -> Finding:
    found = os.stat(cache)
    mode = stat.S_IMODE(found.st_mode)
    value = f"{cache}: user {found.st_uid}, mode {mode:04o}"
    if found.st_uid != os.geteuid():
        return Finding("directory", value, "problem", "use a directory of your own")
    if mode & 0o022:
        return Finding("directory", value, "problem", f"`chmod go-w {_quoted(cache)}`")
    return Finding("directory", value)


def _locks(cache: Path) -> Finding:
    hosts = Hosts(cache / "hosts")
    try:
        hosts.register_and_leave()
    except CacheDirectoryRefused as refusal:
        return Finding("file locks", "a held lock refuses nobody", "problem", str(refusal))
    finally:
        hosts.close()
    return Finding("file locks", "a held lock refuses others")


def _confinement() -> Finding:
    means = isolation.available()
    missing = isolation.missing(means)
    return Finding("confinement", isolation.describe(means), "note" if missing else "ok", missing)


def _database(cache: Path, diagnosis: Diagnosis) -> Iterator[Finding]:
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        yield Finding(
            "SQLite",
            f"{sqlite3.sqlite_version}, WAL-reset bug: vulnerable, guarded",
            "note",
            "registry checkpoints under the write lock; let no other program checkpoint",
        )
    else:
        yield Finding("SQLite", f"{sqlite3.sqlite_version}, WAL-reset bug: fixed")
    mode = diagnosis.journal_mode
    if mode == "wal":
        yield Finding("journal", "WAL")
    else:
        database = _quoted(cache / "registry.db")
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


def _contents(cache: Path, diagnosis: Diagnosis) -> Iterator[Finding]:
    leftovers = f"{diagnosis.orphan_files} files, {diagnosis.dead_hosts} dead hosts"
    if diagnosis.orphan_files or diagnosis.dead_hosts:
        advice = f"{_command(cache, 'check', '--repair')}, or leave it to the hourly maintenance"
        yield Finding("orphans", leftovers, "note", advice)
    else:
        yield Finding("orphans", "none")
    yield _room(cache, diagnosis)
    yield _limit(cache, diagnosis)
    yield _evictions(cache, diagnosis.rebuilt_lately)
    yield _killers(cache, diagnosis.killed_their_host)


def _room(cache: Path, diagnosis: Diagnosis) -> Finding:
    disk = os.statvfs(cache)
    free = disk.f_bavail * disk.f_frsize
    wanted = max(0, diagnosis.usage.cache_limit - diagnosis.usage.bytes)
    value = f"{near_size(free)} free, {near_size(wanted)} more may be held"
    figures = {"free": free, "wanted": wanted}
    if free < wanted:
        lower = _command(cache, "config", "set", "cache_limit", "SIZE")
        advice = f"make room, or lower the limit: {lower}"
        return Finding("disk", value, "note", advice, figures)
    return Finding("disk", value, figures=figures)


def _limit(cache: Path, diagnosis: Diagnosis) -> Finding:
    held, limit = diagnosis.usage.bytes, diagnosis.usage.cache_limit
    needed = diagnosis.working_set_bytes
    lately = f"{near_size(needed)} of it needed lately"
    value = f"{near_size(held)} held, {lately}, limit {near_size(limit)}"
    figures = {"held": held, "needed_lately": needed, "limit": limit}
    if needed > limit:
        higher = _command(cache, "config", "set", "cache_limit", "SIZE")
        advice = f"the limit is below the working set; raise it: {higher}"
        return Finding("limit", value, "problem", advice, figures)
    return Finding("limit", value, figures=figures)


def _evictions(cache: Path, again: Rebuilt) -> Finding:
    value = f"{again.count} prepared again within a day of it, since yesterday"
    if again.count:
        higher = _command(cache, "config", "set", "cache_limit", "SIZE")
        cost = f"that took {again.seconds:.3g} s; raise the limit: {higher}"
        return Finding("evictions", value, "problem", cost)
    return Finding("evictions", value)


def _killers(cache: Path, killers: Sequence[Artifact]) -> Finding:
    names = ", ".join(map(str, killers)) or "none"
    given_up = [artifact.id.short for artifact in killers if artifact.retry_at is None]
    if given_up:
        advice = f"once you know why: {_command(cache, 'retry', *given_up)}"
        return Finding("killed their host", names, "problem", advice)
    if killers:
        advice = "nothing: whoever needs one next prepares it again, a few times at most"
        return Finding("killed their host", names, "note", advice)
    return Finding("killed their host", names)


def _command(cache: Path, *words: str) -> str:
    """What to type, whichever cache the reader's shell would mean."""
    return f"`registry --cache {_quoted(cache)} {shlex.join(words)}`"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
