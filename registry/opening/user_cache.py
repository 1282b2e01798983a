"""Where the cache is that nobody named."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["user_cache_dir"]


def user_cache_dir() -> Path:
    """Where the cache is when nobody says: $REGISTRY_CACHE, else the user's cache directory.

    That is $XDG_CACHE_HOME, as the desktop's specification has it: ~/.cache by default.
    """
    if named := os.environ.get("REGISTRY_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else f"{_home()}/.cache", "registry")


def _home() -> str:
    """The user's home; that of a user without one is "~", and what is opened there says so."""
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "~"
