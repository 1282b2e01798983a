"""Examine a cache and its machine, and advise what to do.

`examine_path` looks before it opens: a cache that cannot be opened needs a doctor most, and opening
would set a damaged database aside. If a check fails, that is a finding too; the other checks go on.

Only SQLite opens the database's own files: closing another descriptor of them would drop the locks
that SQLite holds in this process.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path

from registry.doctor.contents import contents, names_of_database, write_lock
from registry.doctor.disk import room
from registry.doctor.finding import Finding, command, examined, sentence
from registry.doctor.machine import has_wal_reset_bug, machine
from registry.errors import CacheDirectoryRefused, DatabaseDamaged, RegistryError
from registry.opening import migrate
from registry.opening.cache import database_path
from registry.opening.directory import named_directory
from registry.opening.errors import worded
from registry.opening.lock import undisturbed
from registry.opening.presence import has_cache, no_cache, require_no_foreign
from registry.sync import Registry
from registry.world.identity_file import stored_identity
from registry.world.mounts import file_system

__all__ = ["Finding", "examine", "examine_path", "has_wal_reset_bug"]


def examine(registry: Registry) -> list[Finding]:
    """Examine everything that an open cache depends on; the time grows with its files."""
    cache = registry.cache_dir
    database = examined("database", partial(names_of_database, cache))
    return [*machine(cache, file_system(cache)), *database, *_opened(registry)]


def examine_path(path: str | os.PathLike[str]) -> list[Finding]:
    """Examine a cache that perhaps cannot be opened; reports that as a finding.

    Takes as long as `examine`, and reads the whole database.
    """
    try:
        cache = named_directory(path)
    except CacheDirectoryRefused as refused:
        return [Finding("directory", os.fspath(path), "problem", str(refused))]
    found = [*machine(cache, file_system(cache))]
    if any(it.name in ("directory", "file system") and it.verdict == "problem" for it in found):
        return [*found, *room(cache)]
    return [*found, *_looked_into(cache)]


def _looked_into(cache: Path) -> list[Finding]:
    found = [*examined("database", partial(names_of_database, cache))]
    if all(it.verdict == "ok" for it in found):
        damage = _damage(cache)
        if damage is None:
            return [*found, *_tried(cache)]
        found = [damage]
    return [*found, *room(cache)]


def _tried(cache: Path) -> list[Finding]:
    """Open and examine it, if it is there; an error of opening or closing is a finding too."""
    found: list[Finding] = []
    if not has_cache(cache):
        return [*room(cache), Finding("cache", no_cache(cache), "note")]
    try:
        with Registry(cache) as registry:
            found += _opened(registry)
    except (RegistryError, OSError, sqlite3.Error) as error:
        found += () if found else room(cache)
        found.append(Finding("opening", "the cache cannot be used", "problem", sentence(error)))
    return found


def _opened(registry: Registry) -> list[Finding]:
    cache = registry.cache_dir
    lock = [*examined("write lock", partial(write_lock, cache))]
    try:
        return [*lock, *contents(cache, registry.diagnose())]
    except (RegistryError, OSError, sqlite3.Error) as error:
        unread = Finding("contents", "cannot be read", "problem", sentence(error))
        return [*lock, unread, *room(cache)]


def _damage(cache: Path) -> Finding | None:
    """Find damage for which opening would set the database aside."""
    path = database_path(cache)
    try:
        if not has_cache(cache):  # no lock file is left there
            return None
        require_no_foreign(cache)
        with undisturbed(cache), worded(path):
            filled = os.path.exists(path) and os.path.getsize(path) > 0
            if (not filled or migrate.revision_of(path) is None) and stored_identity(cache):
                raise DatabaseDamaged(f"{path} is empty or gone")
            if filled:
                migrate.require_whole(path)
    except DatabaseDamaged as damage:
        advice = (
            f"{sentence(damage)}; stop all hosts, then {command(cache, 'check', '--repair')} sets "
            f"it aside, and {command(cache, 'db', 'recover')} brings back what can be read"
        )
        return Finding("database", "damaged", "problem", advice)
    except (RegistryError, OSError):
        return None
    return None
