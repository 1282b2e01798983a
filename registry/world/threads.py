"""Threads where hardly any can be started: a limit on processes, a full control group."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from registry.errors import RegistryError
from registry.shortage import is_shortage

__all__ = ["Threads", "starting_a_thread"]


class Threads(ThreadPoolExecutor):
    """A pool that makes do with the threads that it has, if there is at least one.

    Without this, submitting would raise, and yet leave the work in the queue: it would be done
    later, after its caller was told that it could not be done.
    """

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


@contextmanager
def starting_a_thread() -> Iterator[None]:
    """Say in words of ours that no thread can be started; Python raises a bare RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if not is_shortage(error):
            raise
        raise RegistryError(
            f"{error}: an AsyncRegistry needs a few threads; raise the limit on processes "
            "(`ulimit -u`, `pids.max` of the control group) or end some, then try again"
        ) from error
