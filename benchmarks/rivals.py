"""What a user would take instead, where it is installed: `pip install '.[bench]'`, and jax.

A rival that is not there is left out, and the report says so in a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.report import new_cache
from benchmarks.stock import DATA

try:
    import diskcache
except ImportError:
    diskcache = None

__all__ = ["WITHOUT_DISKCACHE", "WITHOUT_JAX", "diskcache", "diskcaches", "jax_cache"]

WITHOUT_DISKCACHE = "diskcache is not installed, and left out: `pip install '.[bench]'`.\n"
WITHOUT_JAX = "jax is not installed, and its LRUCache left out: `pip install jax filelock`.\n"
POLICIES = {"diskcache": "least-recently-stored", "diskcache, LRU": "least-recently-used"}


def diskcaches(stack: ExitStack, keys: Sequence[object]) -> dict[str, Contestant]:
    """diskcache, by default and as an LRU, each holding all the keys."""
    return {name: _getting(stack, policy, keys) for name, policy in POLICIES.items() if diskcache}


def _getting(stack: ExitStack, policy: str, keys: Sequence[object]) -> Contestant:
    folder = stack.enter_context(new_cache())
    cache = stack.enter_context(diskcache.Cache(str(folder), eviction_policy=policy))
    with cache.transact():
        for key in keys:
            cache.set(key, DATA)
    return lambda _: lambda: [cache.get(key) for key in keys]


def jax_cache(folder: Path) -> Callable[[str], Any] | None:
    """The `get` of JAX's bounded cache of compiled programs; None where jax is not installed.

    It is the one that `jax_compilation_cache_max_size` switches on, and not public.
    """
    try:
        from jax._src.lru_cache import LRUCache
    except ImportError:
        return None
    cache = LRUCache(str(folder), max_size=1 << 40)
    get: Callable[[str], Any] = cache.get
    return get
