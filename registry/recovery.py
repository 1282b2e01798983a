"""Recover artifacts from a damaged database that was set aside.

1.  The database is copied, and the copy is read, so the original does not change. It is read row by
    row: forwards to the damaged part and after it, then backwards from the end; once with the -wal
    file and once without, because either file may be the damaged one.
2.  The files that the rows name are moved beside the damaged database, where no sweep deletes them.
3.  Each file is compared with its row (size and checksum). Intact files are published again with an
    ordinary claim, the least recently needed first.

So a row that was read wrongly restores nothing that is ever requested, artifacts prepared meanwhile
are not touched, and an interrupted recovery continues when run again. Failures are not restored:
they are tried again. Of the times of last use only the order is kept.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from registry.artifact import ArtifactId, State, names
from registry.config import LARGEST
from registry.effects import Written, is_file_name
from registry.opening.damaged import FOLDER
from registry.sync import Claim, Registry
from registry.world.connection import connect
from registry.world.files import Files

__all__ = ["Recovery", "newest", "recover"]

# A page holds a dozen rows. After this many ids that cannot be read, no more rows are expected.
BREAK = 1000
# UnicodeDecodeError: a message of SQLite that quotes the damaged data.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
_PARTS = ("registry.db", "registry.db-wal")
_COLUMNS = "id, code_hash, prep_hash, path, size, checksum, last_time_needed, label"
_PREPARED = f"SELECT {_COLUMNS} FROM artifact NOT INDEXED WHERE state = 'prepared'"  # noqa: S608
# One by one, because sqlite3 would lose the last row before the damaged part.
_FORWARDS = f"{_PREPARED} AND id >= ? ORDER BY id LIMIT 1"
_BACKWARDS = f"{_PREPARED} AND id <= ? ORDER BY id DESC LIMIT 1"


@dataclass(slots=True)
class Recovery:
    """How many artifacts were read from a damaged database, and what happened to them."""

    read: int = 0
    recovered: int = 0
    known: int = 0  # prepared, or being prepared, already
    missing: int = 0
    damaged: int = 0


class _Found(NamedTuple):
    """A row as it was read; its values may be damaged."""

    id: int
    code_hash: str
    prep_hash: str
    path: str
    size: int
    checksum: str
    last_time_needed: int
    label: str | None

    @property
    def is_sound(self) -> bool:
        """Whether it can be a row that registry wrote."""
        texts = (self.code_hash, self.prep_hash, self.path, self.checksum)
        numbers = (self.size, self.last_time_needed)
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int) for number in numbers)
            and names(self.code_hash, self.prep_hash)
            and is_file_name(self.path)
        )

    @property
    def artifact(self) -> ArtifactId:
        return ArtifactId(self.code_hash, self.prep_hash)


def newest(cache: Path) -> Path:
    """Find the damaged database that was set aside last; raises FileNotFoundError."""
    places = sorted(path.parent for path in (cache / FOLDER).glob("*/registry.db"))
    if not places:
        place = os.fspath(cache / FOLDER)
        raise FileNotFoundError(errno.ENOENT, "no damaged database was set aside", place)
    return places[-1]


def recover(registry: Registry, folder: Path) -> Recovery:
    """Recover what can be read of the damaged database in a folder.

    Recovered artifacts count as needed now, and may be pruned like any other. Raises
    FileNotFoundError if there is no such database, and `DiskFull`.
    """
    rows = _readable(folder)
    place = folder / "artifacts"
    place.mkdir(mode=0o700, exist_ok=True)
    for row in rows:
        _save_file(registry, place, row)
    done = Recovery(read=len(rows))
    with closing(Files(place)) as files:
        for row in rows:
            _recover(registry, files, place / row.path, row, done)
    with suppress(OSError):  # not empty: damaged files stay, for examination
        place.rmdir()
    return done


def _save_file(registry: Registry, place: Path, row: _Found) -> None:
    found = registry.get(row.artifact)
    if found is None or found.state is State.FAILED:
        with suppress(FileNotFoundError):  # swept, or moved by an earlier run
            os.rename(registry.cache_dir / "artifacts" / row.path, place / row.path)


def _recover(registry: Registry, files: Files, file: Path, row: _Found, done: Recovery) -> None:
    written = files.checksum(row.path)
    claim = registry.claim(row.artifact, label=_clean(row.label))
    if not isinstance(claim, Claim):
        done.known += 1
        return
    with claim:
        if written is None:
            done.missing += 1
        elif written != Written(row.size, row.checksum):
            done.damaged += 1
        else:
            claim.publish(file)
            done.recovered += 1


def _clean(label: str | None) -> str | None:
    return label.replace("\0", "") if isinstance(label, str) else None


def _readable(folder: Path) -> list[_Found]:
    """Read the rows that can be read, the least recently needed first."""
    found: dict[int, _Found] = {}
    os.stat(folder / _PARTS[0])  # so that an error names the missing file
    for parts in [_PARTS[:1], *([_PARTS] if (folder / _PARTS[1]).exists() else [])]:
        with TemporaryDirectory(dir=folder) as copy:
            for part in parts:
                shutil.copyfile(folder / part, Path(copy, part))
            found |= {row.id: row for row in _rows(os.path.join(copy, "registry.db"))}
    sound = (row for row in found.values() if row.is_sound)
    return sorted(sound, key=lambda row: (row.last_time_needed, row.id))


def _rows(path: str) -> Iterator[_Found]:
    with suppress(*_UNREADABLE), closing(connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # a broken view does no harm
        yield from _walk(connection, _FORWARDS, 0, 1)
        yield from _walk(connection, _BACKWARDS, LARGEST, -1)


def _walk(connection: sqlite3.Connection, sql: str, at: int, step: int) -> Iterator[_Found]:
    """Read rows in the order of their ids; skip those that cannot be read."""
    broken = 0
    while broken < BREAK and 0 <= at <= LARGEST:
        try:
            found = connection.execute(sql, (at,)).fetchone()
        except _UNREADABLE:
            at, broken = at + step, broken + 1
            continue
        if found is None:
            return
        yield (row := _Found(*found))
        at, broken = row.id + step, 0
