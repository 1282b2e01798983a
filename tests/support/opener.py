"""What each process of a race to open a new cache does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from registry import ArtifactId, Registry

__all__ = ["open_and_use"]


def open_and_use(cache: Path) -> str:
    """Open a cache that may not exist yet, use it, and say which cache it was."""
    with Registry(cache) as registry:
        registry.get_or_prepare(ArtifactId.of(b"code"), lambda: b"artifact")
        with closing(sqlite3.connect(cache / "registry.db")) as connection:
            uuid: str = connection.execute("SELECT uuid FROM cache").fetchone()[0]
    return uuid
