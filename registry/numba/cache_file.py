"""What Numba has for the files of one function: load, save, flush.

It is made from the path that the locator gave; if that is a `Place` of ours, each overload is one
artifact. Overloads whose signature has no canonical form go to Numba's own files.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from typing import Any, Protocol

from registry.keyed import Keyed
from registry.numba.fingerprint import NoFingerprint, depends_on
from registry.numba.scopes import options
from registry.numba.signature import canonical
from registry.opening.user_cache import user_cache_dir

__all__ = ["Place", "install", "keyed", "own_locator"]

keyed = Keyed("numba")
# Settings of Numba that change what it compiles, and that its own keys do not have.
_SETTINGS = (
    *("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT"),
    *("ENABLE_AVX", "DISABLE_INTEL_SVML", "ERROR_MODEL", "LLVM_PASS_TIMINGS", "DIVISION_BY_ZERO"),
    *("USE_LLVM_LEGACY_PASS_MANAGER", "USE_RVSDG_FRONTEND", "LLVM_REFPRUNE_PASS"),
)


class Locator(Protocol):
    """What is asked of `registry.numba.Locator`."""

    py_func: Any
    py_file: str
    has_file: bool

    @property
    def place(self) -> str: ...


class Place(str):
    """The path of the cache, which remembers the locator that gave it."""

    __slots__ = ("locator",)
    locator: Locator

    def __new__(cls, locator: Locator) -> Place:
        place = super().__new__(cls, user_cache_dir())
        place.locator = locator
        return place


def install() -> None:
    """Replace the class of Numba's files; raises where they are not as we know them."""
    from numba.core import caching

    own = caching.IndexDataCacheFile
    _require(own.__init__, "cache_path", "filename_base", "source_stamp")
    _require(own.save, "key", "data")
    _require(own.load, "key")
    _require(own.flush)
    caching.IndexDataCacheFile = _class(own)


def _require(method: Any, *names: str) -> None:
    found = tuple(inspect.signature(method).parameters)[1:]
    if found != names:
        raise TypeError(f"{method.__qualname__} takes {found}")


def own_locator(py_func: Any, py_file: str) -> Any:
    """Return what Numba's own locators answer, or None."""
    from numba.core.caching import CacheImpl

    answers = (it.from_function(py_func, py_file) for it in CacheImpl._locator_classes)  # noqa: SLF001
    return next((it for it in answers if it is not None), None)


def _class(own: Any) -> Any:
    def made(cache_path: str, filename_base: str, source_stamp: Any) -> Any:
        if isinstance(cache_path, Place):
            return CacheFile(own, cache_path.locator, filename_base, source_stamp)
        return own(cache_path, filename_base, source_stamp)

    return made


class CacheFile:
    """The overloads of one function."""

    def __init__(self, own: Any, locator: Locator, base: str, stamp: Any) -> None:
        self._own = own
        self._locator = locator
        self._base = base
        self._stamp = stamp
        self._group = f"{locator.place}\n{base}"
        self._missed: dict[Any, str] = {}  # what was looked for, before it was compiled

    def load(self, key: Any) -> Any:
        """Load an overload, or answer None."""
        try:
            name = self._missed[key] = self._name(key)
        except NoFingerprint:
            own = self._own_file()
            return None if own is None else own.load(key)
        data = keyed.get(name, group=self._group, label=self._label())
        if data is None:
            return None
        try:
            loaded = pickle.loads(data)  # noqa: S301 - it is the user's own, as Numba's files are
        except Exception:  # noqa: BLE001 - any class may be gone that it was made of
            keyed.remove(name, group=self._group)
            return None
        self._tell("loaded from")
        return loaded

    def save(self, key: Any, data: Any) -> None:
        """Save an overload, unless what it depends on changed while it was compiled."""
        from numba.core.serialize import dumps

        try:
            name = self._name(key)
        except NoFingerprint:
            own = self._own_file()
            if own is not None:
                own.save(key, data)
            return
        can_load = isinstance(self._locator.py_func.__module__, str)  # else Numba cannot
        if can_load and self._missed.pop(key, name) == name:
            keyed.put(name, dumps(data), group=self._group, label=self._label())
            self._tell("saved to")

    def flush(self) -> None:
        """Forget all overloads."""
        keyed.forget(self._group)
        own = self._own_file()
        if own is not None:
            own.flush()

    def _name(self, key: Any) -> str:
        """All that changes what is compiled; raises `NoFingerprint`."""
        import llvmlite
        import numba

        signature, machine, (code, closure) = key
        uses = depends_on(self._locator.py_func, strict=not self._locator.has_file)
        made_by = (numba.__version__, llvmlite.__version__, sys.implementation.cache_tag)
        settings = [(it, repr(getattr(numba.config, it, None))) for it in _SETTINGS]
        parts = (canonical(signature), machine, code, uses or closure, self._stamp, made_by)
        return repr((parts, settings, options(self._base, strict=not self._locator.has_file)))

    def _own_file(self) -> Any:
        """Numba's own files of this function; None where it can have none."""
        locator = own_locator(self._locator.py_func, self._locator.py_file)
        if locator is None:
            return None
        locator.ensure_cache_path()
        return self._own(locator.get_cache_path(), self._base, locator.get_source_stamp())

    def _tell(self, what: str) -> None:
        """Print what Numba prints with NUMBA_DEBUG_CACHE; its index is our database."""
        from numba.core import config

        if config.DEBUG_CACHE:
            for part in ("index", "data"):
                print(f"[cache] {part} {what} {self._locator.place!r}")  # noqa: T201

    def _label(self) -> str:
        return str(getattr(self._locator.py_func, "__qualname__", self._base))
