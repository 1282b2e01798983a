"""What a user might use instead, if it is installed: `pip install '.[bench]'`, and jax.

A rival that is not installed is left out, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Work
from benchmarks.report import new_cache
from benchmarks.stock import DATA

try:
    import diskcache
except ImportError:
    diskcache = None
try:
    import joblib
except ImportError:
    joblib = None

__all__ = [
    "POLICIES",
    "diskcache",
    "diskcaches",
    "fill_diskcache",
    "has_jax",
    "jax_cache",
    "joblib",
]

POLICIES = {"diskcache": "least-recently-stored", "diskcache, LRU": "least-recently-used"}


def missing() -> list[str]:
    """A word for each rival that is not there."""
    words = []
    if diskcache is None:
        words.append("diskcache is not installed, and left out: `pip install '.[bench]'`.\n")
    if not has_jax():
        words.append("jax is not installed, and left out: `pip install jax filelock`.\n")
    return words


def diskcaches(stack: ExitStack, keys: Sequence[object]) -> dict[str, Contestant]:
    """diskcache, by default and as an LRU, each holding all the keys."""
    return {name: _getting(stack, policy, keys) for name, policy in POLICIES.items() if diskcache}


def _getting(stack: ExitStack, policy: str, keys: Sequence[object]) -> Contestant:
    folder = stack.enter_context(new_cache())
    fill_diskcache(folder, policy, keys)
    cache = stack.enter_context(diskcache.Cache(str(folder)))
    return lambda _: lambda: [cache.get(key) for key in keys]


def fill_diskcache(folder: Path, policy: str, keys: Iterable[object]) -> None:
    """Have it hold all the keys."""
    with diskcache.Cache(str(folder), eviction_policy=policy) as cache, cache.transact():
        for key in keys:
            cache.set(key, DATA)


def culling(stack: ExitStack, number: int, k: int, *, rounds: int) -> Contestant:
    """diskcache's cull of k of so many: it takes ten at a time until the volume is in its limit."""
    folder = stack.enter_context(new_cache())
    fill_diskcache(folder, "least-recently-used", range(number + k * (rounds + 1)))
    cache = stack.enter_context(diskcache.Cache(str(folder), size_limit=1 << 60))

    def ready(_: int) -> Work:
        each = (cache.volume() - len(cache) * len(DATA)) / max(len(cache), 1) + len(DATA)
        cache.reset("size_limit", int(cache.volume() - k * each))
        return cache.cull

    return ready


def has_jax() -> bool:
    """Whether JAX's bounded cache can be used."""
    return find_spec("jax") is not None and find_spec("filelock") is not None


def jax_cache(folder: Path) -> Any:
    """JAX's cache of compiled programs, bounded.

    It is what `jax_compilation_cache_max_size` switches on, and not public.
    """
    from jax._src.lru_cache import LRUCache

    return LRUCache(str(folder), max_size=1 << 40)
