"""Errors as one sentence on stderr, and their exit codes.

| code | meaning |
|---|---|
| 0 | done |
| 1 | something failed: a preparation, a check, a file, an artifact that does not exist |
| 2 | misuse: an unknown option, a size or an id that cannot be read |
| 3 | the cache cannot be used: refused, damaged, locked, full, of another version |
| 128 + N | stopped by signal N (130: Ctrl-C, 143: SIGTERM, 141: the reader closed the pipe) |
"""

from __future__ import annotations

from registry.cli.output import say, to_json, visible
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    DiskFull,
    InvalidId,
    InvalidSetting,
    NotARegistry,
    OpenTimeout,
    RegistryBusy,
    SchemaTooNew,
    SchemaTooOld,
)

__all__ = [
    "DONE",
    "FAILED",
    "MISUSE",
    "UNUSABLE",
    "complain",
    "complain_of",
    "exit_code",
    "sentence",
]

DONE = 0
FAILED = 1
MISUSE = 2
UNUSABLE = 3

_MISUSES = (InvalidId, InvalidSetting)
_UNUSABLE = (
    CacheDirectoryRefused,
    DatabaseDamaged,
    DiskFull,
    NotARegistry,
    OpenTimeout,
    RegistryBusy,
    SchemaTooNew,
    SchemaTooOld,
)


def exit_code(error: Exception) -> int:
    """Return the exit code of an expected error."""
    if isinstance(error, _MISUSES):
        return MISUSE
    return UNUSABLE if isinstance(error, _UNUSABLE) else FAILED


def complain(error: Exception, *, about: str = "", as_json: bool) -> None:
    """Write an error to stderr, as a sentence or as `{"error": {"type", "message"}}`."""
    message = sentence(error)
    if not message.startswith(about):
        message = f"{about}: {message}"
    complain_of(type(error).__name__, message, as_json=as_json)


def complain_of(kind: str, message: str, *, as_json: bool) -> None:
    """Write an error message to stderr that is no exception."""
    if as_json:
        say(to_json({"error": {"type": kind, "message": message}}))
    else:
        first, *rest = message.splitlines()
        say(
            "error:", "\n".join([visible(first), *(f"  {visible(line)}".rstrip() for line in rest)])
        )


def sentence(error: Exception) -> str:
    """Return the message of an error; that of an `OSError` without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
