"""Caches as they lie on the disk, closed, to be looked at and spoiled."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from registry import ArtifactId, Registry

__all__ = ["CODE", "execute", "prepared_cache", "tree"]

CODE = ArtifactId.of(b"code")


def prepared_cache(cache: Path) -> Path:
    """A closed cache with one artifact in it; the path of its database."""
    with Registry(cache) as registry:
        registry.get_or_prepare(CODE, lambda: b"artifact")
    return cache / "registry.db"


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that is beneath a folder: modes, contents, and where links point."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISREG(mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(mode):
            content = os.readlink(path).encode()
        found[str(path.relative_to(folder))] = (mode, content)
    return found
