"""The hot path of `need`: a dictionary, a stat, and a comparison of times; no statement.

Plain code, before any verb starts. It holds for as long as the last use that is written in the row
is younger than the resolution, and the settings that this follows from were read a moment ago. The
file's inode, size and mtime are those whose checksum was compared, and names are never used twice,
so what was pruned or replaced by any process shows here at once. So does a last use that another
host wrote, for it leaves a mark on the file: many hosts that need the same artifacts write each
last use once, not once each.
"""

from __future__ import annotations

import os
import time

from registry.artifact import Artifact, ArtifactId
from registry.verbs.handle import Handle
from registry.world import fork

__all__ = ["hot_artifact"]


def hot_artifact(handle: Handle, id: ArtifactId) -> Artifact | None:
    """Return the artifact if the database need not be asked, else None.

    The file is looked for by the path that is answered: so a cache that was moved is no hit.
    """
    known = handle.hot
    hot = known.get(id)
    now = (time.time_ns() + 500) // 1000  # as `clock.now`, without the call
    if hot is None or known.is_to_ask(now) or not known.resolution:  # 0: each need writes
        return None
    if fork.is_child():  # the handle is the parent's
        return None
    try:
        seen = os.lstat(hot.place)
    except OSError:
        return None
    if seen.st_size != hot.size or (seen.st_ino, seen.st_mtime_ns) != hot.identity:
        return None
    lately = 0 <= now - hot.written < known.resolution
    if not lately and not hot.marked_lately(seen, now, known.resolution):
        return None
    handle.counters.hits += 1
    return hot.artifact
