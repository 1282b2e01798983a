"""One thing that the doctor looked at, and how advice is worded."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from registry.errors import RegistryError

__all__ = ["Finding", "Verdict", "command", "examined", "quoted", "sentence"]

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what it is, what was found, whether that is well, and what to do.

    `value` is for people; the numbers in it are exact in `figures`, sizes in bytes.
    """

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)


def examined(name: str, look: Callable[[], Finding | Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what was found; where looking itself fails, that is what was found."""
    try:
        found = look()
        yield from (found,) if isinstance(found, Finding) else found
    except (RegistryError, OSError, sqlite3.Error) as error:
        yield Finding(name, "cannot be examined", "problem", sentence(error))


def sentence(error: Exception) -> str:
    """What an error says, an OSError without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def command(cache: Path, *words: str) -> str:
    """What to type, whichever cache the reader's shell would mean."""
    return f"`registry --cache {quoted(cache)} {shlex.join(words)}`"


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))
