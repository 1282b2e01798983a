"""The pages of a database, and how to write over them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["PAGE", "root_of", "write_over"]

PAGE = 4096


def root_of(database: Path, name: str) -> int:
    """Where in the file the first page of a table or an index starts."""
    with closing(sqlite3.connect(database)) as connection:
        find = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        ((page,),) = connection.execute(find, (name,)).fetchall()
    return int(page - 1) * PAGE


def write_over(path: Path, offset: int, noise: bytes) -> None:
    """Write over some bytes of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(noise)
