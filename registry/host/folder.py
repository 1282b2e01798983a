"""Folders that are removed with whatever others have put into them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["empty", "remove"]


def empty(folder: Path, *, keep: str) -> None:
    """Remove all that is in a folder but the one of this name; raises `OSError`."""
    for entry in list(os.scandir(folder)):
        if entry.name != keep and entry.is_dir(follow_symlinks=False):
            remove(Path(entry))
        elif entry.name != keep:
            os.unlink(entry)


def remove(folder: Path) -> None:
    """Remove a folder and all in it, even what was made read-only; none is nothing to remove.

    Raises `OSError` for what is no folder, a link to one too, and for what cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except PermissionError:
        _make_writable(folder)
        shutil.rmtree(folder)


def _make_writable(folder: Path) -> None:
    os.chmod(folder, 0o700)
    for parent, folders, _ in os.walk(folder):
        for path in (os.path.join(parent, name) for name in folders):
            if not os.path.islink(path):
                os.chmod(path, 0o700)
