"""Findings about the disk of a cache: free bytes and inodes."""

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

_FEW_BYTES = 1024**2  # with less, even the journal of a deletion may not fit
_FEW_INODES = 16  # a handle, its Host and one artifact in preparation


def room(cache: Path, usage: Usage | None = None) -> Iterator[Finding]:
    """Check free space; `usage` is the size and the limit of the cache, if known."""
    yield from examined("disk", partial(_disk, cache, usage))
    yield from examined("inodes", partial(_inodes, cache, usage))


def _disk(cache: Path, usage: Usage | None) -> Finding:
    found = os.statvfs(existing_part(cache))
    free = found.f_bavail * found.f_frsize
    value, figures = f"{near_size(free)} free", {"free": free}
    wanted = 0
    if usage is not None:
        wanted = figures["wanted"] = max(0, usage.cache_limit - usage.bytes)
        value += f", {near_size(wanted)} more may be stored"
    if free < _FEW_BYTES:
        advice = f"free space, or keep fewer artifacts: {_fewer(cache, usage)}"
        return Finding("disk", value, "problem", advice, figures)
    if free < wanted:
        lower = command(cache, "config", "set", "cache_limit", "SIZE")
        advice = f"free space, or lower the limit: {lower}"
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
        f"soon no files can be created: see `df -i {quoted(point)}`, delete files there, or keep "
        f"fewer artifacts: {_fewer(cache, usage)}"
    )
    return Finding("inodes", value, verdict, advice, figures)


def _fewer(cache: Path, usage: Usage | None) -> str:
    """Return the command that prunes half of the cache, the least recently needed first."""
    half = "SIZE" if usage is None else str(usage.bytes // 2)
    return command(cache, "prune", "--limit", half, "--min-stale", "0")
