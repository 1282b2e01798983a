"""Open a cache: check its directory, create or migrate its database.

Many processes may open a new or a damaged directory at once. A process that checks whether the
cache is ready shares `open.lock`; one that creates or migrates it holds the lock alone, so that
nobody reads an unfinished database. (SQLite deletes the journal beside an empty database, and the
process that creates the database then fails.) WAL is switched on once, at creation, with retries,
because another program may still read.

The cost does not grow with the cache. Only SQLite opens the database's own files: closing another
descriptor of them would drop the locks that SQLite holds in this process.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from registry.effects import Locked
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    DiskFull,
    InvalidSetting,
    RegistryBusy,
    RegistryError,
    SchemaTooNew,
    SchemaTooOld,
)
from registry.log import about, logger
from registry.opening import migrate
from registry.opening.damaged import HostsOpening, set_aside
from registry.opening.directory import named_directory, prepared_directory
from registry.opening.errors import worded, worded_trouble, worded_upgrade
from registry.opening.lock import OPEN_TIMEOUT_SECONDS, POLL_SECONDS, in_turn, undisturbed
from registry.opening.presence import require_no_foreign
from registry.world import clock
from registry.world.cache_identity import hard_linked
from registry.world.chance import token_hex
from registry.world.connection import MISFITS, connect, primary_code, translated
from registry.world.files import Reserve
from registry.world.hosts import living_hosts
from registry.world.identity_file import forget_identity, store_identity, stored_identity

__all__ = ["database_path", "downgrade_cache", "on_the_reserve", "open_cache", "replace_damaged"]

T = TypeVar("T")
_WAL_TRIES = 200


def database_path(cache: Path) -> str:
    """Return the path of a cache's database."""
    return str(cache / "registry.db")


def open_cache(directory: str | os.PathLike[str], *, upgrade: bool = True) -> Path:
    """Prepare a cache for this version; return its absolute directory.

    Raises `CacheDirectoryRefused`, `OpenTimeout`, `NotARegistry`, `DatabaseDamaged`,
    `SchemaTooNew`, and `SchemaTooOld` where `upgrade` is False, or the upgrade fails.
    """
    if sqlite3.sqlite_version_info < migrate.OLDEST_SQLITE:
        raise RegistryError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or later is needed")
    with worded_trouble(directory):
        cache = _prepared(directory)
        on_the_reserve(cache, lambda: _open(cache, upgrade))
    return cache


def _prepared(directory: str | os.PathLike[str]) -> Path:
    cache = named_directory(directory)
    require_no_foreign(cache)
    return prepared_directory(cache)


def _open(cache: Path, upgrade: bool) -> None:
    if not _seems_ready(cache):
        _once_unused(cache, lambda: _make_ready(cache, upgrade))


def on_the_reserve(cache: Path, work: Callable[[], T]) -> T:
    """Open part of a cache; on a full disk, free the reserve and try again.

    A process that opens a cache on a full disk may want to prune it.
    """
    try:
        with worded_trouble(cache):
            return work()
    except DiskFull:
        Reserve(cache / "reserve").give_up()
    with worded_trouble(cache):
        return work()


def replace_damaged(directory: str | os.PathLike[str]) -> Path | None:
    """Set aside a database found damaged after opening; return its new place.

    Reads all of it. None: it is intact, because another process was faster or the damage is
    elsewhere.
    Raises `DatabaseDamaged` while a host has it open.
    """
    with worded_trouble(directory):
        cache = _prepared(directory)
        return _once_unused(cache, lambda: _replaced(cache))


def _once_unused(cache: Path, work: Callable[[], T]) -> T:
    """Do something alone; try again while hosts are still opening the damaged database.

    Nothing is held between tries, because those hosts may be threads of this process.
    """
    until = clock.elapsed() + OPEN_TIMEOUT_SECONDS
    while True:
        try:
            return in_turn(cache, work)
        except HostsOpening as damage:
            if clock.elapsed() > until:
                raise DatabaseDamaged(str(damage)) from damage
        time.sleep(POLL_SECONDS)


def downgrade_cache(directory: str | os.PathLike[str], revision: str) -> None:
    """Take a cache back to an older schema, for an older version of `registry`.

    Data of newer revisions is lost. Raises `RegistryBusy` while a host has the cache open,
    `SchemaTooNew` for a schema that this version does not know, and `InvalidSetting` unless it is
    an older revision.
    """
    with worded_trouble(directory):
        cache = _prepared(directory)
        in_turn(cache, lambda: _downgrade(cache, revision))


def _seems_ready(cache: Path) -> bool:
    """Check whether there is anything to create or migrate, while no process does it."""
    with undisturbed(cache):
        return _is_ready(cache)


def _is_ready(cache: Path) -> bool:
    try:
        return (
            stored_identity(cache) is not None
            and _size(cache) > 0
            and _revision(cache) == migrate.HEAD
        )
    except DatabaseDamaged:
        return False  # checked again, and handled, under the lock


def _make_ready(cache: Path, upgrade: bool) -> None:
    path = database_path(cache)
    try:
        # The identity is written last: an empty database beside it is damaged.
        empty = _size(cache) == 0 or _revision(cache) is None
        if empty and stored_identity(cache) is not None:
            raise DatabaseDamaged(f"{path} is empty or gone")
        _make_database(cache, upgrade)
    except DatabaseDamaged as damage:
        set_aside(cache, damage)
        _make_database(cache, upgrade)
    Reserve(cache / "reserve").rebuild()
    if stored_identity(cache) is None:
        with worded(path):
            store_identity(cache, migrate.uuid_of(path))


def _replaced(cache: Path) -> Path | None:
    path = database_path(cache)
    if _size(cache) == 0:  # SQLite deletes the -wal of an empty database; opening handles that
        return None
    try:
        with worded(path):
            migrate.require_whole(path)
    except DatabaseDamaged as damage:
        cause = damage.__cause__
        if isinstance(cause, sqlite3.Error) and primary_code(cause) in MISFITS:
            return None  # not our schema, but no damaged bytes
        place = set_aside(cache, damage)
        _make_ready(cache, upgrade=True)
        return place
    return None


def _downgrade(cache: Path, revision: str) -> None:
    living = sum(living_hosts(cache / "hosts", _listed_hosts(cache)))
    if living:
        raise RegistryBusy(
            f"{living} host(s) have {cache} open and need its schema as it is: stop them "
            "(`registry hosts` lists them), then downgrade"
        )
    _size(cache)  # refuses a database that does not belong to this cache alone
    known, now = [known.id for known in migrate.revisions()], _revision(cache)
    if now is not None and now not in known:
        raise SchemaTooNew(
            f"the database has schema {now}, which only a newer version of registry can take back; "
            "run `registry db downgrade` of that one"
        )
    older = [] if now is None else known[: known.index(now)]
    if revision not in older:
        raise InvalidSetting(
            f"{revision[:40]!r} is not an older revision than {now}, which the database has; "
            f"use one of: {', '.join(older) or 'none'}"
        )
    path = database_path(cache)
    with worded(path):
        migrate.downgrade(path, revision)


def _listed_hosts(cache: Path) -> list[tuple[str, int, str]]:
    """Return the hosts that have a row: a living host's lock file may have been removed."""
    path = database_path(cache)
    if _size(cache) == 0:
        return []
    with closing(connect(path, timeout=1.0)) as connection, suppress(sqlite3.Error):
        return connection.execute("SELECT id, pid, hostname FROM host").fetchall()
    return []  # an old schema without this table


def _make_database(cache: Path, upgrade: bool) -> None:
    path = database_path(cache)
    if _size(cache) == 0:
        with worded(path):
            _create(path)
    revision = _revision(cache)
    if revision is None:
        with worded(path):
            migrate.upgrade(path)
    elif revision != migrate.HEAD and migrate.is_older(path, revision):
        if not upgrade:
            raise SchemaTooOld(
                f"{path} has schema {revision}, this version needs {migrate.HEAD}; "
                "run `registry db upgrade`, or open it with upgrade=True"
            )
        if revision == migrate.FIRST:  # it has no identity: the upgrade creates one
            forget_identity(cache)
        with worded_upgrade(path, revision, migrate.HEAD):
            if migrate.rebuilds(revision):
                _back_up(cache, revision)
            migrate.upgrade(path)


def _back_up(cache: Path, revision: str) -> None:
    """Copy the database into `backups/`: rebuilding a table might lose data."""
    folder = cache / "backups"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    place = folder / f"{revision}-{token_hex(4)}.db"
    migrate.backup(database_path(cache), str(place))
    told = about("backed_up", place=str(place))
    logger.warning(
        "the upgrade rebuilds tables; the database as it was is in %s", place, extra=told
    )


def _create(path: str) -> None:
    with suppress(FileExistsError):  # an empty file counts as missing
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    for _ in range(_WAL_TRIES):
        try:
            with closing(connect(path, timeout=1.0)) as connection:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if not isinstance(translated(error, path), Locked):
                raise
            time.sleep(POLL_SECONDS)
    raise RegistryBusy(
        f"{path} is locked by another program, so WAL cannot be switched on; close that program"
    )


def _size(cache: Path) -> int:
    """Return the size of the database, 0 if missing; refuses a second hard link."""
    path = database_path(cache)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    shared = hard_linked(path, found)
    if shared is not None:
        raise CacheDirectoryRefused(shared)
    return found.st_size


def _revision(cache: Path) -> str | None:
    path = database_path(cache)
    with worded(path):
        return migrate.revision_of(path)
