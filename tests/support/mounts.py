"""File systems of a test's own, mounted as it wants them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["mounted", "remount"]


@contextmanager
def mounted(point: Path, options: str, kind: str = "tmpfs") -> Iterator[Path]:
    """Mount a file system for the time of a test; skips it where that is not allowed."""
    point.mkdir(mode=0o700, exist_ok=True)
    line = ["mount", "-t", kind, "-o", options, "registry", point]
    done = subprocess.run(line, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no {kind} can be mounted: {done.stderr!r}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


def remount(point: Path, options: str) -> None:
    """Change how it is mounted."""
    subprocess.run(["mount", "-o", f"remount,{options}", point], check=True)
