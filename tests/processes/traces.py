"""What processes leave: in the database, in the folders, and in a log of their own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry import Artifact, ArtifactId, Claim, Registry, State

__all__ = ["assert_clean", "claimed", "code_id", "connected", "lines", "note", "query"]


def code_id(name: object) -> ArtifactId:
    """Name an artifact that all processes know by the same word."""
    return ArtifactId.of(f"code {name}".encode())


def claimed(registry: Registry, id: ArtifactId) -> Claim:
    """Claim what is there to be claimed."""
    claim = registry.claim(id)
    assert isinstance(claim, Claim), f"{id.short} is {claim.state}"
    return claim


def note(log: Path, word: object) -> None:
    """Add a line to a log that many processes write: one write, at the end of the file."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def lines(log: Path) -> list[str]:
    """Read such a log."""
    return log.read_text().splitlines() if log.exists() else []


@contextmanager
def connected(cache: Path) -> Iterator[sqlite3.Connection]:
    """Look at the database from outside, without checkpointing it."""
    connection = sqlite3.connect(cache / "registry.db", isolation_level=None, timeout=30)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    try:
        yield connection
    finally:
        connection.close()


def query(cache: Path, sql: str, *values: Any) -> list[Any]:
    """Run one statement from outside."""
    with connected(cache) as connection:
        return connection.execute(sql, values).fetchall()


def assert_clean(cache: Path) -> list[Artifact]:
    """See that repairing leaves nothing of the dead, and nothing to repair; what is prepared."""
    with Registry(cache) as registry:
        registry.check(repair=True)
        report = registry.check(checksums=True)
        assert report.ok, report.problems
        assert list(registry.artifacts(state=State.PREPARING)) == []
        assert [host.alive for host in registry.hosts()] == [True]
        assert os.listdir(cache / "hosts") == [f"{registry.hosts()[0].id}.lock"]
        assert query(cache, "PRAGMA integrity_check") == [("ok",)]
        return list(registry.artifacts(state=State.PREPARED))
