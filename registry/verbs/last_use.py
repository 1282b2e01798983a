"""Last uses that cannot be written now: remembered in the handle, and written later, best effort.

What is prepared is answered whenever it can be read. So a hit waits for no lock that another
program holds, and neither a full disk nor a read-only one turns it into an error.
"""

from __future__ import annotations

from registry.artifact import ArtifactId
from registry.effects import Elapsed, Now, Verb
from registry.sql.queries import NOTE_USE
from registry.verbs.database import at_once
from registry.verbs.handle import LATE_LIMIT, Handle, HotArtifact

__all__ = ["is_locked_out", "remember_use", "write_late_uses"]

LOCK_PAUSE_SECONDS = 1.0


def is_locked_out(handle: Handle) -> Verb[bool]:
    """Whether another program held the lock a moment ago, so that a hit need not try again."""
    if handle.locked_at is None:
        return False
    return (yield from Elapsed()) - handle.locked_at < LOCK_PAUSE_SECONDS


def remember_use(handle: Handle, hot: HotArtifact, now: int) -> None:
    """Keep a last use that could not be written."""
    handle.hot.remember(hot)
    if len(handle.late_uses) < LATE_LIMIT or hot.artifact.id in handle.late_uses:
        handle.late_uses[hot.artifact.id] = hot.name, now


def write_late_uses(handle: Handle, most: int = LATE_LIMIT) -> Verb[None]:
    """Write some of what is remembered, as far as that can be done at once."""
    for named in list(handle.late_uses)[:most]:
        if not (yield from _write(handle, named)):
            return


def _write(handle: Handle, id: ArtifactId) -> Verb[bool]:
    known = handle.late_uses.get(id)
    if known is None:  # another thread was faster
        return True
    name, at = known
    now = yield from Now()
    at = min(at, now)  # no use was later than now: the clock was set back since
    this = {"code": id.code_hash, "prep": id.prep_hash, "seen_path": name, "at": at, "now": now}
    written = (yield from at_once(handle, NOTE_USE, this)) is not None
    if written and handle.late_uses.get(id) == known:
        del handle.late_uses[id]
    return written
