"""Findings about growing data, and about the clock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from registry.doctor.finding import Finding, command, quoted
from registry.sizes import near_size
from registry.verbs.diagnosis import Diagnosis

__all__ = ["bounds"]

# Freed pages are used again; more than this, and most of the file, is rare.
MUCH_FREE_BYTES = 64 * 1024**2
SET_ASIDE = ("damaged", "backups")


def bounds(cache: Path, diagnosis: Diagnosis) -> Iterator[Finding]:
    """Examine the clock, the failures, free pages and files set aside."""
    yield _clock(diagnosis)
    yield _failures(cache, diagnosis)
    yield _free_pages(cache, diagnosis)
    yield _set_aside(cache)


def _clock(diagnosis: Diagnosis) -> Finding:
    found = diagnosis.ahead
    if not any(found):
        return Finding("clock", "no time is in the future")
    value = (
        f"more than a minute in the future: {found.needs} last uses, {found.failures} failures, "
        f"{found.claims} claims"
    )
    advice = (
        "the clock was set back, or is slow now: check `date`; if it is right, do "
        "nothing: these rows are pruned first, retried at once or corrected"
    )
    return Finding("clock", value, "note", advice)


def _failures(cache: Path, diagnosis: Diagnosis) -> Finding:
    kept = diagnosis.failures
    limits = f"at most {kept.max_count} and {near_size(kept.max_bytes)} of errors"
    value = f"{kept.count} kept, {near_size(kept.bytes)} of errors; {limits}"
    figures = {"held": kept.bytes, "limit": kept.max_bytes}
    if kept.count > kept.max_count or kept.bytes > kept.max_bytes:
        advice = f"{command(cache, 'prune')}, or leave it to the hourly maintenance"
        return Finding("failures", value, "note", advice, figures)
    return Finding("failures", value, figures=figures)


def _free_pages(cache: Path, diagnosis: Diagnosis) -> Finding:
    size, free = diagnosis.database_bytes, diagnosis.free_bytes
    value = f"{near_size(free)} of the database's {near_size(size)}; they are used again"
    figures = {"size": size, "free": free}
    if free > MUCH_FREE_BYTES and free > size // 2:
        path = quoted(cache / "registry.db")
        advice = f"nothing; or, to give it back, stop all hosts, then `sqlite3 {path} VACUUM`"
        return Finding("free pages", value, "note", advice, figures)
    return Finding("free pages", value, figures=figures)


def _set_aside(cache: Path) -> Finding:
    """Report files that only people remove, because the registry cannot know their use."""
    held = {name: _bytes_in(cache / name) for name in SET_ASIDE}
    total = sum(held.values())
    if not total:
        return Finding("set aside", "nothing")
    value = ", ".join(f"{near_size(size)} in {name}/" for name, size in held.items() if size)
    advice = "remove what you no longer need; the registry never does"
    return Finding("set aside", value, "note", advice, {"held": total})


def _bytes_in(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total
