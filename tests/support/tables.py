"""The database and the folder as they are, seen from outside: plain sqlite3, plain files.

What a test asserts of the rows, it asserts on a connection of its own, never through the code that
is tested.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from registry import ArtifactId

__all__ = [
    "DEAD",
    "change",
    "connected",
    "die",
    "files",
    "fill",
    "row",
    "rows",
    "snapshot",
    "usage",
]

# A host that nobody ever was: it has no lock file, so it is dead.
DEAD = "0" * 32


@contextmanager
def connected(cache: Path) -> Iterator[sqlite3.Connection]:
    """Open the database beside the registry, without checkpointing it."""
    connection = sqlite3.connect(cache / "registry.db", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        yield connection
    finally:
        connection.close()


def rows(cache: Path) -> list[dict[str, Any]]:
    """Read all artifacts, in the order of their ids."""
    with connected(cache) as connection:
        return [dict(found) for found in connection.execute("SELECT * FROM artifact ORDER BY id")]


def row(cache: Path, id: ArtifactId) -> dict[str, Any] | None:
    """Read one artifact, or None."""
    named = (id.code_hash, id.prep_hash)
    return next((r for r in rows(cache) if (r["code_hash"], r["prep_hash"]) == named), None)


def change(cache: Path, id: ArtifactId, *, checked: bool = False, **values: Any) -> None:
    """Write into a row what no verb would; its CHECKs are out of the way, unless `checked`."""
    columns = ", ".join(f"{name} = :{name}" for name in values)
    this = {"code": id.code_hash, "prep": id.prep_hash}
    with connected(cache) as connection:
        connection.execute(f"PRAGMA ignore_check_constraints = {int(not checked)}")
        changed = connection.execute(
            f"UPDATE artifact SET {columns} WHERE code_hash = :code AND prep_hash = :prep",
            values | this,
        )
        assert changed.rowcount == 1


def die(cache: Path, id: ArtifactId) -> None:
    """Let the host that prepares an artifact be dead."""
    change(cache, id, host_id=DEAD)


def fill(cache: Path, sizes: list[int], *, first: int = 0, step: int = 0) -> list[ArtifactId]:
    """Write prepared artifacts and their files straight in: many, without an fsync for each.

    The first was last needed at `first` microseconds, each next one `step` later.
    """
    made = [ArtifactId.of(b"filled %d" % number) for number in range(len(sizes))]
    with connected(cache) as connection:
        connection.execute("BEGIN")
        for number, (named, size) in enumerate(zip(made, sizes, strict=True)):
            path, data = f"{number:0128x}.pvf", b"x" * size
            (cache / "artifacts" / path).write_bytes(data)
            checksum, needed = xxhash.xxh3_128_hexdigest(data), first + number * step
            connection.execute(
                "INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, "
                "last_time_needed) VALUES (?, ?, 'prepared', ?, ?, ?, ?)",
                (named.code_hash, named.prep_hash, path, size, checksum, needed),
            )
        connection.execute("COMMIT")
    return made


def files(cache: Path) -> dict[str, bytes]:
    """Read the folder of artifacts."""
    return {path.name: path.read_bytes() for path in sorted((cache / "artifacts").iterdir())}


def usage(cache: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read what `usage` says is prepared (count, bytes), and what the rows sum up to."""
    with connected(cache) as connection:
        kept = connection.execute("SELECT prepared_count, prepared_bytes FROM usage").fetchall()
        prepared = [r for r in rows(cache) if r["state"] == "prepared"]
    assert len(kept) == 1
    return tuple(kept[0]), (len(prepared), sum(r["size"] for r in prepared))


def snapshot(cache: Path) -> tuple[Any, ...]:
    """Read everything that a refusal must leave as it was."""
    with connected(cache) as connection:
        stored = [tuple(r) for r in connection.execute("SELECT * FROM setting ORDER BY name")]
    return rows(cache), usage(cache), stored, files(cache)
