"""One handle for each process and cache, opened when it is first asked for.

A module is imported long before its functions are called, perhaps in another process: gunicorn
preloads and forks. So each process opens its own handle, and each event loop one of its own; it is
closed when the process ends.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from registry.opening.directory import named_directory
from registry.opening.user_cache import user_cache_dir

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from registry.aio import AsyncRegistry
    from registry.sync import Registry

__all__ = ["async_handle", "async_handle_on", "handle", "handle_on"]

# By process: the child of a fork opens its own, and inherits no lock that is held.
_handles: dict[tuple[int, Path], Registry] = {}
_async_handles: dict[tuple[int, Path, AbstractEventLoop], AsyncRegistry] = {}
_opening: dict[tuple[int, Path], threading.RLock] = {}


def handle(cache: str | os.PathLike[str] | None = None) -> Registry:
    """Return this process's one handle on a cache; open it at the first call.

    Without `cache`, that of the command: $REGISTRY_CACHE, else the user's cache directory. All
    threads get the same handle, the child of a fork gets one of its own, and one that was closed is
    replaced. It is closed when the process ends; do not close it yourself, for others use it. Do
    not keep it where a fork may follow: ask again, which costs microseconds. Raises what opening a
    `Registry` raises.
    """
    return handle_on(_named(cache))


async def async_handle(cache: str | os.PathLike[str] | None = None) -> AsyncRegistry:
    """Return this event loop's one handle on a cache; see `handle`."""
    return await async_handle_on(_named(cache))


def handle_on(directory: Path) -> Registry:
    """Return this process's handle on a directory that is named in full."""
    key = (os.getpid(), directory)
    known = _open_handle(key)
    if known is None:
        with _opening.setdefault(key, threading.RLock()):
            known = _open_handle(key)
            if known is None:
                known = _handles[key] = _opened(directory)
    return known


async def async_handle_on(directory: Path) -> AsyncRegistry:
    """Return this loop's handle on a directory that is named in full."""
    import asyncio

    from registry.aio import AsyncRegistry
    from registry.world.shield import in_thread

    key = (os.getpid(), directory, asyncio.get_running_loop())
    known = _async_handles.get(key)
    if known is None:
        for ended in _without_loops():
            await in_thread(ended._at_exit)  # noqa: SLF001
        known = _async_handles.setdefault(key, AsyncRegistry(directory))
    return await known.open()


def _named(cache: str | os.PathLike[str] | None) -> Path:
    return named_directory(user_cache_dir() if cache is None else cache)


def _open_handle(key: tuple[int, Path]) -> Registry | None:
    known = _handles.get(key)
    return None if known is None or known._closed is not None else known  # noqa: SLF001


def _opened(directory: Path) -> Registry:
    from registry.sync import Registry

    return Registry(directory)


def _without_loops() -> list[AsyncRegistry]:
    """Take out the handles whose loop has ended; answer those that are still open."""
    ended = [key for key in list(_async_handles) if key[0] == os.getpid() and key[2].is_closed()]
    taken = [_async_handles.pop(key, None) for key in ended]  # None: another thread was faster
    return [each for each in taken if each is not None and each._closed is None]  # noqa: SLF001
