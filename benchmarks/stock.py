"""Caches with many artifacts, made in seconds: rows by the million, and files if they matter."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import xxhash
from processes.traces import code_id

from registry import Registry

__all__ = ["DATA", "fill"]

DATA = b"x" * 1000
INSERT = """
INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, last_time_needed,
                      created_at, prepare_seconds)
VALUES (?, ?, 'prepared', ?, ?, ?, ?, ?, 0.5)"""
TRIGGER = "SELECT sql FROM sqlite_master WHERE name = 'usage_insert'"
COUNT = "UPDATE usage SET prepared_count = ?, prepared_bytes = ?"
FILES_OF_THEIR_OWN = 100_000
NAMES_OF_ONE = 1000
_CHECKSUM = xxhash.xxh3_128_hexdigest(DATA)
_PREP = code_id(0).prep_hash  # that of no parameters


def fill(cache: Path, number: int, *, files: bool = False) -> None:
    """Have so many prepared artifacts of 1,000 bytes, `code_id(0)` and on, needed in that order.

    Without `files`, only the rows. They are inserted as a whole, the counts set at the end, and all
    is on the disk when it returns.
    """
    Registry(cache).close()
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        (trigger,) = database.execute(TRIGGER).fetchone()
        database.execute("BEGIN")
        database.execute("DROP TRIGGER usage_insert")
        database.executemany(INSERT, _rows(number))
        database.execute(COUNT, (number, number * len(DATA)))
        database.execute(trigger)
        database.execute("COMMIT")
    if files:
        _link_files(cache / "artifacts", number)
    _sync(cache / "registry.db")


def _sync(path: Path) -> None:
    """Else the first fsync that is measured waits for all that was just written."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _link_files(folder: Path, number: int) -> None:
    """Have a file under each name. Beyond a hundred thousand, many names share one, for a million
    files take 4 GB; a last use that is marked on one of those is marked on all."""
    names = 1 if number <= FILES_OF_THEIR_OWN else NAMES_OF_ONE
    for key in range(number):
        if key % names == 0:
            first = folder / _name(key)
            first.write_bytes(DATA)
            first.chmod(0o400)
        else:
            os.link(first, folder / _name(key))


def _rows(number: int) -> Iterator[tuple[str, str, str, int, str, int, int]]:
    for key in range(number):
        code = blake2b(f"code {key}".encode(), digest_size=32).hexdigest()
        yield code, _PREP, _name(key), len(DATA), _CHECKSUM, key + 1, key + 1


def _name(key: int) -> str:
    return blake2b(b"%d" % key).hexdigest() + ".pvf"
