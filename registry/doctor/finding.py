"""One finding of the doctor, and how its advice is written."""

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
    """One check: its name, its result, the verdict and the advice.

    `value` is for people; `figures` has its exact numbers, sizes in bytes.
    """

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)


def examined(name: str, look: Callable[[], Finding | Iterable[Finding]]) -> Iterator[Finding]:
    """Yield findings; if the check itself fails, that is the finding."""
    try:
        found = look()
        yield from (found,) if isinstance(found, Finding) else found
    except (RegistryError, OSError, sqlite3.Error) as error:
        yield Finding(name, "cannot be examined", "problem", sentence(error))


def sentence(error: Exception) -> str:
    """Return the message of an error; that of an OSError without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def command(cache: Path, *words: str) -> str:
    """Return a command line that names the cache explicitly."""
    return f"`registry --cache {quoted(cache)} {shlex.join(words)}`"


def quoted(path: Path) -> str:
    """Quote a path for a shell."""
    return shlex.quote(str(path))
