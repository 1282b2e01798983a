"""How much room there is on the disk under a cache: bytes, and inodes for its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from registry.doctor.finding import Finding, Verdict, command, examined, quoted
from registry.sizes import near_size
from registry.verbs.prune import Usage
from registry.world.mounts import existing_part, mount_of

__all__ = ["room"]

_FEW_BYTES = 1024**2  # below it not even the journal of a deletion is sure to fit
_FEW_INODES = 16  # a handle, its Host and one artifact in the making


def room(cache: Path, usage: Usage | None = None) -> Iterator[Finding]:
    """Look for room; `usage` is what the cache holds and may hold, where that is known."""
    yield from examined("disk", partial(_disk, cache, usage))
    yield from examined("inodes", partial(_inodes, cache, usage))


def _disk(cache: Path, usage: Usage | None) -> Finding:
    found = os.statvfs(existing_part(cache))
    free = found.f_bavail * found.f_frsize
    value, figures = f"{near_size(free)} free", {"free": free}
    wanted = 0
    if usage is not None:
        wanted = figures["wanted"] = max(0, usage.cache_limit - usage.bytes)
        value += f", {near_size(wanted)} more may be held"
    if free < _FEW_BYTES:
        advice = f"make room, or hold fewer artifacts: {_fewer(cache, usage)}"
        return Finding("disk", value, "problem", advice, figures)
    if free < wanted:
        lower = command(cache, "config", "set", "cache_limit", "SIZE")
        advice = f"make room, or lower the limit: {lower}"
        return Finding("disk", value, "note", advice, figures)
    return Finding("disk", value, figures=figures)


def _inodes(cache: Path, usage: Usage | None) -> Finding:
    found = os.statvfs(existing_part(cache))
    if found.f_files == 0:  # btrfs, among others
        return Finding("inodes", "not limited")
    free = found.f_favail
    value, figures = f"{free} of {found.f_files} free", {"free_inodes": free}
    if free >= max(_FEW_INODES, found.f_files // 100):
        return Finding("inodes", value, figures=figures)
    verdict: Verdict = "problem" if free < _FEW_INODES else "note"
    point = Path(mount_of(cache)[0] or cache)
    advice = (
        f"no more files can be made soon: see `df -i {quoted(point)}`, delete files there, or hold "
        f"fewer artifacts: {_fewer(cache, usage)}"
    )
    return Finding("inodes", value, verdict, advice, figures)


def _fewer(cache: Path, usage: Usage | None) -> str:
    """The command that drops half of what is held, the least recently needed first."""
    half = "SIZE" if usage is None else str(usage.bytes // 2)
    return command(cache, "prune", "--limit", half, "--min-stale", "0")
