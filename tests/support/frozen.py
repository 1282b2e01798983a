"""The caches that earlier revisions left behind: copied, never touched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["FROZEN", "PREPARED", "SPEED", "thawed"]

_DATA = Path(__file__).parents[1] / "data"
FROZEN = sorted(path.stem for path in _DATA.glob("*.db"))
# What each holds: this code, so prepared, as these bytes.
SPEED = {"opt_level": "speed"}
PREPARED = {b"prepared %d" % number: b"artifact %d " % number * 100 for number in range(3)}


def thawed(revision: str, cache: Path) -> Path:
    """Make a copy of the cache that a revision left behind."""
    cache.mkdir(0o700)
    shutil.copy(_DATA / f"{revision}.db", cache / "registry.db")
    shutil.copytree(_DATA / f"{revision}-artifacts", cache / "artifacts")
    if (_DATA / f"{revision}.id").exists():
        shutil.copy(_DATA / f"{revision}.id", cache / "cache.id")
    os.chmod(cache / "artifacts", 0o700)
    return cache
