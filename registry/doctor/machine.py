"""Findings about the machine of a cache: directory, disk, kernel, SQLite.

Needs no open cache and changes nothing, except for a lock file that it tries.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from registry.confinement import isolation
from registry.doctor.finding import Finding, Verdict, examined, quoted
from registry.errors import CacheDirectoryRefused
from registry.opening.directory_check import directory_problems
from registry.opening.problems import refusal
from registry.world.hosts import Hosts
from registry.world.mounts import (
    NETWORK_FILE_SYSTEMS,
    is_mounted_noexec,
    mount_of,
)

__all__ = ["has_wal_reset_bug", "machine"]

_FEW_FILES = 256  # a handle and its Host need some dozens


def machine(cache: Path, kind: str) -> Iterator[Finding]:
    """Examine the machine; `kind` is the type of the file system."""
    yield _file_system(kind)
    directory = [*examined("directory", partial(_directory, cache))]
    yield from directory
    yield from examined("execution", partial(_execution, cache))
    if all(found.verdict == "ok" for found in directory):
        yield from examined("file locks", partial(_locks, cache))
    else:
        yield Finding("file locks", "not tried", "note", "repair the directory first")
    yield from examined("confinement", _confinement)
    yield _open_files()
    yield _sqlite()


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite can corrupt a WAL database when a checkpoint meets a writer.

    Affected: 3.7.0 to 3.51.2, except the fixed releases 3.50.7 and 3.44.6.
    """
    if version < (3, 7, 0) or version >= (3, 51, 3):
        return False
    return not ((3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0))


def _file_system(kind: str) -> Finding:
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding("file system", kind, "problem", "move the cache to a local disk")
    return Finding("file system", kind)


def _directory(cache: Path) -> Finding:
    value = str(cache)
    if problems := directory_problems(cache):
        if os.path.isdir(cache):
            value = _described(cache)
        return Finding("directory", value, "problem", str(refusal(cache, problems)))
    value = _described(cache) if os.path.lexists(cache) else f"{cache}: does not exist yet"
    return Finding("directory", value)


def _described(cache: Path) -> str:
    found = os.lstat(cache)
    return f"{cache}: user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"


def _execution(cache: Path) -> Finding:
    artifacts = cache / "artifacts"  # it may be its own mount
    if not is_mounted_noexec(artifacts):
        return Finding("execution", "artifacts can be mapped as code")
    point = Path(mount_of(artifacts)[0] or artifacts)
    advice = (
        "compiled artifacts cannot be run from there: move the cache, or "
        f"`sudo mount -o remount,exec {quoted(point)}` (containers: the option `exec` of --tmpfs)"
    )
    # Without a backend that runs artifacts they are plain bytes, and this is no problem.
    verdict: Verdict = "problem" if find_spec("wasmtime") else "note"
    return Finding("execution", f"mounted noexec ({point})", verdict, advice)


def _locks(cache: Path) -> Finding:
    if not os.path.lexists(cache / "hosts"):
        return Finding("file locks", "not tried: there is no cache yet")
    hosts = Hosts(cache / "hosts")
    try:
        hosts.register_and_leave()
    except CacheDirectoryRefused as refused:
        return Finding(
            "file locks", "a held lock does not block other processes", "problem", str(refused)
        )
    finally:
        hosts.close()
    return Finding("file locks", "a held lock blocks other processes")


def _confinement() -> Finding:
    means = isolation.available()
    missing = isolation.missing(means)
    return Finding("confinement", isolation.describe(means), "note" if missing else "ok", missing)


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FEW_FILES:
        return Finding("open files", f"{soft if soft >= 0 else 'any number'} a process")
    more = 1024 if hard == resource.RLIM_INFINITY else min(hard, 1024)
    advice = f"a process with many open artifacts runs out of descriptors: `ulimit -n {more}`"
    return Finding("open files", f"{soft} a process", "note", advice)


def _sqlite() -> Finding:
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        return Finding(
            "SQLite",
            f"{sqlite3.sqlite_version}, WAL-reset bug: vulnerable, guarded",
            "note",
            "registry checkpoints under the write lock; let no other program checkpoint",
        )
    return Finding("SQLite", f"{sqlite3.sqlite_version}, WAL-reset bug: fixed")
