"""The periodic cleanup of a host: prune, sweep and reap the shared cache."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from registry.aio import AsyncRegistry
from registry.config import as_span
from registry.errors import InvalidSetting, RegistryError
from registry.log import about, in_one_line

__all__ = ["CLEANUP_INTERVAL", "Pulse"]

_log = logging.getLogger(__name__)
CLEANUP_INTERVAL = timedelta(hours=1)


class Pulse:
    """Clean up a registry at every interval, from `start` to `stop`; no interval of 0."""

    def __init__(self, registry: AsyncRegistry, interval: timedelta) -> None:
        if not as_span("cleanup_interval", interval):
            raise InvalidSetting("cleanup_interval is 0, which would clean up all the time")
        self._registry = registry
        self._interval = interval
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first time is one interval from now."""
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """End; what is in the middle of being cleaned up is left as it should be."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            try:
                await self._registry.prune()
            except (RegistryError, OSError) as error:
                told = about("cleanup_failed", error=str(error))
                said = in_one_line(error)
                _log.warning("could not clean up, trying again later: %s", said, extra=told)
