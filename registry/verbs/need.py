"""Need an artifact: bump its last use, and see that its file is there and is what was published.

The size is compared each time, for it comes with the stat; the checksum at the first meeting of
this process with a file, for it costs a read: an artifact becomes native code, and our checksum is
all that stands between a damaged file and running it. A file that is missing or damaged is a miss:
the row goes, guarded by its path, and the next process that needs the artifact prepares it again.

File names are never used twice. So a stat of the name is the coherence protocol between processes:
a pruned, replaced or truncated artifact shows at once.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, Literal, NamedTuple

from registry.artifact import Artifact, ArtifactId, State, require_id
from registry.effects import Checksum, MarkUse, Now, OpenFile, Stat, Verb, is_file_name
from registry.errors import UnknownArtifact
from registry.log import about, logger
from registry.sql.queries import USAGE, Row
from registry.sql.transitions import TRANSITIONS, Event
from registry.verbs.database import at_once, end, only_row, read
from registry.verbs.handle import Handle, HotArtifact
from registry.verbs.history import ended, record
from registry.verbs.last_use import is_locked_out, remember_use, write_late_uses
from registry.verbs.lease import settle, unlinking_if_cut_short
from registry.verbs.prune import unlink_all, usage_in
from registry.verbs.shared_counters import tell

__all__ = ["count", "discard", "identity", "inspect", "look_up", "need", "open_file", "reject"]

# Each try but the last means that another host replaced or pruned the artifact in between.
TRIES = 100
USUAL_MICROS = 1_000_000
# So that no handle writes more than a thousand last uses a second. Ten thousand are about all that
# SQLite can write: a handle that keeps so many hot would write at each need, and keep all others
# from writing (measured: 4,600 needs a second instead of 160,000; see docs/performance.md).
MICROS_EACH = 1_000
# So many late uses are written beside one that can be written.
LATE_AT_ONCE = 100


def need(handle: Handle, id: ArtifactId) -> Verb[Artifact | None]:
    """Answer the prepared artifact, bumped and its file there, or None: a hit or a miss."""
    require_id(id)
    return count(handle, (yield from look_up(handle, id)))


def count(handle: Handle, found: Artifact | Row | None) -> Artifact | None:
    """Count what a look has found as a hit or a miss; answer the artifact of a hit."""
    if isinstance(found, Artifact):
        handle.counters.hits += 1
        return found
    handle.counters.misses += 1
    return None


def look_up(handle: Handle, id: ArtifactId) -> Verb[Artifact | Row | None]:
    """Need an artifact without counting it as a hit or a miss.

    For a miss the answer is its row, None if it has none: so that a claim need not read it again.
    """
    found: Artifact | Row | None = yield from _need_known(handle, id)
    if found is None:
        found = yield from _need_unknown(handle, id)
    if not isinstance(found, Artifact) or not handle.late_uses:  # else nothing can be written now
        yield from settle(handle)
    return found


def _need_unknown(handle: Handle, id: ArtifactId) -> Verb[Artifact | Row | None]:
    """Need an artifact that is not hot in this handle."""
    row = None
    for _ in range(TRIES):
        row = yield from read(id)
        if row is None or row.state != State.PREPARED:
            break
        finding = yield from inspect(handle, row)
        if finding.fault is not None or finding.seen is None:
            yield from discard(handle, row, finding.fault or "missing")
            continue
        found = handle.artifact(row, id)
        place = os.fspath(handle.folder / str(row.path))
        hot = HotArtifact(found, place, str(row.path), finding.seen.st_size, identity(finding.seen))
        bumped = yield from _bump(handle, hot, (yield from Now()))
        if bumped is not None:
            return bumped
    return row


def _need_known(handle: Handle, id: ArtifactId) -> Verb[Artifact | None]:
    """Need an artifact that this handle knows: if its file is unchanged, one guarded write."""
    hot = handle.hot.get(id)
    if hot is None:
        return None
    seen = yield from Stat(hot.name)
    if seen is not None and (seen.st_size, identity(seen)) == (hot.size, hot.identity):
        now = yield from Now()
        if (yield from _written_lately(handle, hot, seen, now)):
            return hot.artifact
        bumped = yield from _bump(handle, hot, now)
        if bumped is not None:
            return bumped
    handle.hot.pop(id, None)
    return None


def open_file(handle: Handle, id: ArtifactId) -> Verb[BinaryIO]:
    """Open the file of a prepared artifact; raises `UnknownArtifact`."""
    found: Artifact | Row | None = yield from need(handle, id)
    for _ in range(TRIES):
        if not isinstance(found, Artifact) or found.path is None:
            break
        file = yield from OpenFile(found.path.name)
        if file is not None:
            return file
        handle.hot.pop(id, None)  # pruned between the two: ask again what is known of it
        found = yield from look_up(handle, id)
    raise UnknownArtifact(
        f"{id.short} is not prepared (any more); prepare it with get_or_prepare, then open it"
    )


class Finding(NamedTuple):
    """What a look at the file of a prepared row found: its fault, if any, and its stat."""

    fault: Literal["missing", "damaged", "hostile"] | None
    seen: os.stat_result | None = None


def inspect(handle: Handle, row: Row, *, checksums: bool | None = None) -> Verb[Finding]:
    """Compare a file with its row; `checksums` None: unless this handle has compared it before."""
    if not is_file_name(row.path):
        return Finding("hostile")  # and so never opened, never unlinked
    name = str(row.path)
    seen = yield from Stat(name)
    if seen is None:
        return Finding("missing")
    if not stat.S_ISREG(seen.st_mode) or seen.st_size != row.size:
        return Finding("damaged", seen)
    if checksums is None:
        checksums = not _known(handle, row, seen)
    if not checksums:
        return Finding(None, seen)
    summed = yield from Checksum(name)
    if summed is None:  # it was there a moment ago, but cannot be read
        return Finding("damaged", seen)
    same = (summed.size, summed.checksum) == (row.size, row.checksum)
    return Finding(None if same else "damaged", seen)


def discard(handle: Handle, row: Row, fault: str) -> Verb[None]:
    """Drop the row of a faulty file, then the file; the artifact will be prepared again."""
    artifact = ArtifactId(row.code_hash, row.prep_hash)
    handle.hot.pop(artifact, None)
    named = {"code": row.code_hash, "prep": row.prep_hash, "seen_path": row.path}
    now = yield from Now()
    discarded = (yield from unlinking_if_cut_short([row], end(Event.DISCARD, named))).rows
    if not discarded:  # pruned or replaced meanwhile, and so no fault at all
        return
    logger.warning(
        "the file of %s is %s; it will be prepared again",
        artifact.short,
        fault,
        extra=about("discarded", artifact, label=row.label, fault=fault),
    )
    handle.counters.discarded += 1
    yield from unlink_all(discarded)
    yield from record(handle, map(ended, discarded), fault, now)


def reject(handle: Handle, artifact: Artifact) -> Verb[None]:
    """Discard an artifact that proved to be damaged in use, unless it was replaced since."""
    row = yield from read(artifact.id)
    if row is not None and artifact.path is not None and row.path == artifact.path.name:
        yield from discard(handle, row, "damaged")


def resolution(min_stale_time: int, hot: int) -> int:
    """How old a written last use may grow before it is written again, in microseconds.

    A second, or more in a handle that keeps more than a thousand artifacts hot. Half the stale time
    at most, so that what was needed is never pruned because its use was not written yet.
    """
    return min(max(USUAL_MICROS, hot * MICROS_EACH), min_stale_time // 2)


def identity(seen: os.stat_result) -> tuple[int, int]:
    """What tells that a file is still the one whose checksum was compared."""
    return seen.st_ino, seen.st_mtime_ns


def _known(handle: Handle, row: Row, seen: os.stat_result) -> bool:
    hot = handle.hot.get(ArtifactId(row.code_hash, row.prep_hash))
    return hot is not None and hot.name == row.path and hot.identity == identity(seen)


def _bump(handle: Handle, hot: HotArtifact, now: int) -> Verb[Artifact | None]:
    """Write the last use, guarded by the path; and remember that the artifact is hot."""
    named = hot.artifact.id
    this = {"code": named.code_hash, "prep": named.prep_hash, "seen_path": hot.name, "now": now}
    answer = None
    if not (yield from is_locked_out(handle)):
        answer = yield from at_once(handle, TRANSITIONS[Event.NEED], this)
    if answer is None:  # needed all the same, for its file was seen; the next need tries again
        remember_use(handle, hot, now)
        return hot.artifact
    handle.late_uses.pop(named, None)
    if not answer:
        return None
    yield from write_late_uses(handle, LATE_AT_ONCE)
    yield from tell(handle, now)
    _trust(handle, handle.min_stale_time(answer[0][0]), now)
    if handle.hot.resolution:  # else each need writes, and nobody looks for a mark
        yield from MarkUse(hot.name, now, hot.identity[1])
    bumped = hot.used(now)
    handle.hot.remember(hot)
    return bumped


def _written_lately(handle: Handle, hot: HotArtifact, seen: os.stat_result, now: int) -> Verb[bool]:
    """Whether the last use that is written, by us or as it is marked on the file, is young enough,
    by the settings as they are now."""
    if handle.hot.is_to_ask(now):
        if (yield from is_locked_out(handle)):
            return False
        rows = yield from at_once(handle, USAGE, {})
        if rows is None:
            return False
        _trust(handle, usage_in(handle, only_row(USAGE, rows)).min_stale_time, now)
        yield from tell(handle, now)
    young = handle.hot.resolution
    return 0 <= now - hot.written < young or hot.marked_lately(seen, now, young)


def _trust(handle: Handle, min_stale_time: int, now: int) -> None:
    handle.hot.resolution = resolution(min_stale_time, len(handle.hot))
    handle.hot.trust(now)
