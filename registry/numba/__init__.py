"""Numba's functions, compiled once per machine: NUMBA_CACHE_LOCATOR_CLASSES=registry.numba.Locator.

Numba asks the locator where a function with `cache=True` is cached; this one says "here", also for
functions that are in no file. Loading and saving is private to Numba: where it is not as we know
it, its own locators answer, with one warning.

    cache_file      load, save and flush, as Numba calls them
    scopes          the flights around Numba's compilations
    fingerprint     what a function depends on: its code, globals and closure
    signature       the canonical form of a signature
"""

from __future__ import annotations

import os
from typing import Any

from registry.log import about, logger
from registry.numba import cache_file, scopes
from registry.numba.fingerprint import NoFingerprint, code_of, depends_on

__all__ = ["Locator"]

_installed: list[bool] = []


class Locator:
    """Where Numba caches a function: in the registry."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self.py_func = py_func
        self.py_file = self._py_file = py_file  # the second for Numba's warnings
        self.has_file = os.path.exists(py_file)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """Return the locator of a function; Numba's own, where ours cannot be used."""
        locator = cls(py_func, py_file)
        if not _is_installed() or not locator.can_tell_apart():
            return cache_file.own_locator(py_func, py_file)
        return locator

    def can_tell_apart(self) -> bool:
        """Whether a change of the function would be noticed: by its file, or by all it uses."""
        if self.has_file:
            return True
        try:
            depends_on(self.py_func, strict=True)
        except NoFingerprint:
            return False
        return True

    def get_cache_path(self) -> str:
        """Return a path for people; Numba hands it on to `cache_file`, which sees who made it."""
        return cache_file.Place(self)

    def ensure_cache_path(self) -> None:
        """There is nothing to make."""

    def get_source_stamp(self) -> str:
        """Return what changes with the source file; `cache_file` sees what else counts."""
        if not self.has_file:
            return "in no file"
        from hashlib import sha256
        from pathlib import Path

        return sha256(Path(self.py_file).read_bytes()).hexdigest()

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name in one file apart."""
        return str(self.py_func.__code__.co_firstlineno) if self.has_file else code_of(self.py_func)

    @property
    def place(self) -> str:
        """The file of the function; the name of its module, where it is in none."""
        return os.path.abspath(self.py_file) if self.has_file else str(self.py_func.__module__)


def _is_installed() -> bool:
    """Put ours into Numba's place at the first call."""
    if not _installed:
        try:
            cache_file.install()
            scopes.install(cache_file.keyed)
            _installed.append(True)
        except (ImportError, AttributeError, TypeError) as error:
            _installed.append(False)
            logger.warning(
                "this Numba is not as registry.numba knows it, and uses its own cache: %s",
                error,
                extra=about("keyed_failed", error=str(error), error_kind=type(error).__name__),
            )
    return _installed[0]
