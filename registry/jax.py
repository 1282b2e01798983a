"""JAX's compilation cache in this cache: one compilation per machine.

Set `REGISTRY_JAX=1`; JAX loads this module by its entry point `jax_plugins`. Or call `install()`
before the first compilation. The seams are private ones of JAX: where they are not as expected,
JAX keeps its own cache, with one warning.
"""

from __future__ import annotations

import os
from functools import wraps
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

from registry.keyed import Keyed
from registry.log import about, in_one_line, logger

__all__ = ["VARIABLE", "initialize", "install"]

VARIABLE = "REGISTRY_JAX"
_OFF = frozenset({"", "0", "no", "off", "false"})
_THRESHOLD = "jax_persistent_cache_min_compile_time_secs"
# JAX stores nothing that compiled faster than this, unless told otherwise; storing takes 3 ms.
_JAX_DEFAULT_SECONDS = 1.0


def initialize() -> None:
    """Do what the variable says: JAX calls this once, before it compiles."""
    if os.environ.get(VARIABLE, "").strip().lower() not in _OFF:
        install()


def install(cache: str | os.PathLike[str] | None = None) -> bool:
    """Let JAX keep its executables in a cache, by default that of the command; return whether.

    All that JAX compiles is stored, unless `jax_persistent_cache_min_compile_time_secs` says
    otherwise. May be called again, with another cache. It never raises for JAX: a release whose
    insides are not as expected keeps its own cache, with one warning.
    """
    try:
        seams = _Seams()
        seams.use(Keyed("jax", cache))
    except (ImportError, AttributeError, TypeError) as error:
        logger.warning(
            "JAX keeps its own compilation cache: its insides are not as expected: %s",
            in_one_line(error),
            extra=about("jax_failed", error=str(error), error_kind=type(error).__name__),
        )
        return False
    return True


class _Seams:
    """The places in JAX where a cache is made and a compilation begins; asked for before use."""

    def __init__(self) -> None:
        self.config: Any = import_module("jax").config
        self.cache: Any = import_module("jax._src.compilation_cache")
        self.compiler: Any = import_module("jax._src.compiler")
        self.interface: Any = import_module("jax._src.compilation_cache_interface").CacheInterface
        self.flags: Any = import_module("jax._src.config")
        self.job: Any = import_module("jax._src.distributed").global_state
        for owner, name in (
            (self.cache, "get_file_cache"),
            (self.cache, "reset_cache"),
            (self.compiler, "compile_or_get_cached"),
            (self.config, "update"),
        ):
            if not callable(getattr(owner, name)):
                raise TypeError(f"{owner} has no function {name}")

    def use(self, keyed: Keyed) -> None:
        """Put a `Keyed` behind the seams."""
        made = _cache_of(self.interface, keyed)
        checks = getattr(self.flags, "compilation_cache_check_contents", None)  # since 0.8
        compile_ = self.compiler.compile_or_get_cached
        compile_ = getattr(compile_, "registry_wraps", compile_)

        def get_file_cache(path: str) -> tuple[Any, str]:
            is_verified = checks is not None and checks.value
            return (self.cache.VerificationCache(made) if is_verified else made), path

        @wraps(compile_)
        def compile_or_get_cached(*args: Any, **kwargs: Any) -> Any:
            if self.job.process_id != 0 or not _is_stored(args, kwargs):  # JAX stores nothing
                return compile_(*args, **kwargs)
            with keyed.flight():
                return compile_(*args, **kwargs)

        compile_or_get_cached.registry_wraps = compile_  # type: ignore[attr-defined]
        self._configure()
        self.cache.reset_cache()  # one that was made before
        self.cache.get_file_cache = get_file_cache
        self.compiler.compile_or_get_cached = compile_or_get_cached

    def _configure(self) -> None:
        """Switch JAX's cache on: without a folder it asks for none. Nothing is written to it."""
        if not self.flags.compilation_cache_dir.value:
            self.config.update("jax_compilation_cache_dir", "registry")
        threshold = self.flags.persistent_cache_min_compile_time_secs.value
        if threshold == _JAX_DEFAULT_SECONDS and _THRESHOLD.upper() not in os.environ:
            self.config.update(_THRESHOLD, 0.0)


def _is_stored(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether JAX may put the result: one with callbacks it keeps nowhere, so none is to wait."""
    callbacks = kwargs["host_callbacks"] if "host_callbacks" in kwargs else args[4:5] and args[4]
    return not callbacks


def _cache_of(interface: Any, keyed: Keyed) -> Any:
    """Make a cache of JAX's own kind."""
    group = _processor()
    given: set[str] = set()

    class RegistryCache(interface):  # type: ignore[misc]
        _path = Path("registry")

        def get(self, key: str) -> bytes | None:
            found = keyed.get(key, group=group)
            if found is not None:
                given.add(key)
            return found

        def put(self, key: str, value: bytes) -> None:
            if key in given:  # JAX got it, and could not load it
                given.discard(key)
                keyed.remove(key, group=group)
            keyed.put(key, value, group=group)

    return RegistryCache()


def _processor() -> str:
    """What this processor can do: XLA compiles for it, and a cache may be moved with a disk."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    told = sorted({it for it in lines if it.startswith(("flags", "Features", "model name"))})
    return blake2b("\n".join(told).encode(), digest_size=16).hexdigest()
