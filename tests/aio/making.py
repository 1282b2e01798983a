"""Artifacts made in one line, and rows changed as no verb would change them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from registry import Artifact, ArtifactId, AsyncClaim, AsyncRegistry, Claim, Registry

__all__ = [
    "DATA",
    "DEAD",
    "PATIENCE",
    "change",
    "claimed",
    "failed",
    "files",
    "held",
    "neglect",
    "prepare",
    "prepared",
    "until",
]

DATA = b"compiled"
# A host that nobody ever was: it has no lock file, so it is dead.
DEAD = "0" * 32
# Seconds after which a test that hangs fails; no test passes because of it.
PATIENCE = 60.0


async def prepare() -> bytes:
    """Prepare, giving way to other tasks once."""
    await asyncio.sleep(0)
    return DATA


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it may come to hold in another thread
            await asyncio.sleep(0)


def claimed(registry: Registry, id: ArtifactId) -> Claim:
    """Claim what is there to be claimed."""
    claim = registry.claim(id)
    assert isinstance(claim, Claim), f"{id.short} is {claim.state}"
    return claim


async def held(registry: AsyncRegistry, id: ArtifactId) -> AsyncClaim:
    """Claim what is there to be claimed, asynchronously."""
    claim = await registry.claim(id)
    assert isinstance(claim, AsyncClaim), f"{id.short} is {claim.state}"
    return claim


def prepared(registry: Registry, id: ArtifactId, data: bytes = DATA) -> Artifact:
    """Publish an artifact."""
    return claimed(registry, id).publish(data)


def failed(registry: Registry, id: ArtifactId, *, retryable: bool = True) -> Artifact:
    """Fail to prepare an artifact."""
    return claimed(registry, id).fail("it went wrong", retryable=retryable)


def change(cache: Path, id: ArtifactId, **values: Any) -> None:
    """Write into a row what no verb would."""
    columns = ", ".join(f"{name} = :{name}" for name in values)
    this = {"code": id.code_hash, "prep": id.prep_hash}
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(
            f"UPDATE artifact SET {columns} WHERE code_hash = :code AND prep_hash = :prep",
            values | this,
        )


def neglect(cache: Path) -> None:
    """Let maintenance be due."""
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE maintenance SET last_done = 0")


def files(cache: Path) -> set[str]:
    """List the folder of artifacts."""
    return {path.name for path in (cache / "artifacts").iterdir()}
