"""The file of an artifact, and how a disk or a person may spoil it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from registry import Artifact

__all__ = ["SPOILED", "path_of", "spoil"]


def path_of(artifact: Artifact | None) -> Path:
    """The file of an artifact that is known to be prepared."""
    assert artifact is not None
    assert artifact.path is not None
    return artifact.path


def spoil(path: Path, content: bytes) -> None:
    """Write over a published file, which is read-only."""
    path.chmod(0o600)
    path.write_bytes(content)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    spoil(path, bytes(content))


def _linked_to_a_copy(path: Path) -> None:
    copy = path.parent / "copy"
    copy.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(copy)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


# What was done to a file, in a way that its next hit must notice.
SPOILED: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "truncated": lambda path: spoil(path, path.read_bytes()[:-1]),
    "emptied": lambda path: spoil(path, b""),
    "grown": lambda path: spoil(path, path.read_bytes() + b"\0"),
    "a flipped bit": _flipped,
    "a link to a copy": _linked_to_a_copy,
    "a folder": _a_folder,
    "a fifo": _a_fifo,
}
