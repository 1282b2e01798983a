"""The hot path of `need`: a dictionary, a stat, and a comparison of times; no statement.

Plain code, before any verb starts. It holds for as long as the last use that this handle wrote is
younger than the resolution; the file's inode, size and mtime are those whose checksum was compared,
and names are never used twice, so what was pruned or replaced by any process shows here at once.
"""

from __future__ import annotations

import os

from registry.artifact import Artifact, ArtifactId
from registry.verbs.handle import Handle
from registry.world import clock

__all__ = ["hot_artifact"]


def hot_artifact(handle: Handle, id: ArtifactId) -> Artifact | None:
    """Answer an artifact that needs no look at the database, or None."""
    hot = handle.hot.get(id)
    if hot is None or not 0 <= clock.now() - hot.written < hot.resolution:
        return None
    try:
        seen = os.stat(hot.location, follow_symlinks=False)
    except OSError:
        return None
    if seen.st_size == hot.row.size and (seen.st_ino, seen.st_mtime_ns) == hot.identity:
        handle.counters.hits += 1
        return hot.artifact
    return None
