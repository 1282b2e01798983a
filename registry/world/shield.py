"""Clearing up that no cancellation cuts short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from registry.shortage import is_shortage

__all__ = ["in_thread", "unbroken"]

T = TypeVar("T")


async def unbroken(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end; a cancellation meanwhile is raised once that is done."""
    doing = asyncio.create_task(work)
    interruption = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        raise interruption
    doing.result()


async def in_thread(work: Callable[[], T]) -> T:
    """Do it in a thread, or here, where the machine has no thread to give."""
    try:
        return await asyncio.to_thread(work)
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        return work()
