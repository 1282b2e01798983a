"""`AsyncClaim`: the right to prepare one artifact, for code that runs in an event loop."""

from __future__ import annotations

import os
from datetime import timedelta
from types import TracebackType
from typing import Literal, TypeVar

from registry.aio.handle import AsyncHandle
from registry.artifact import Artifact
from registry.base_claim import HeldClaim
from registry.blame import is_remembered
from registry.effects import Verb
from registry.errors import ClaimLost, HandleForked
from registry.verbs import publish
from registry.verbs.handle import Handle

__all__ = ["AsyncClaim"]

T = TypeVar("T")


class AsyncClaim(HeldClaim[AsyncHandle]):
    """The right to prepare one artifact; see `Claim`."""

    async def publish(self, data: bytes | os.PathLike[str]) -> Artifact:
        """As `Claim.publish`."""
        return await self._drive(publish.publish(self._handle, self._lease, data))

    async def fail(
        self, error: str | BaseException, *, kind: str | None = None, retryable: bool = True
    ) -> Artifact:
        """As `Claim.fail`."""
        return await self._drive(publish.fail(self._handle, self._lease, error, kind, retryable))

    async def release(self) -> None:
        """As `Claim.release`."""
        await self._drive(publish.release(self._handle, self._lease))

    async def extend(self, timeout: timedelta) -> None:
        """As `Claim.extend`."""
        await self._drive(publish.extend(self._handle, self._lease, timeout))

    async def __aenter__(self) -> AsyncClaim:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> Literal[False]:
        if not self._lease.ended:
            try:
                if is_remembered(error):
                    await self.fail(error)
                else:
                    await self.release()
            except HandleForked:  # it is the parent's, and goes on there
                pass
            except ClaimLost:
                if error is None:
                    raise
        return False

    @property
    def _handle(self) -> Handle:
        return self._registry._opened  # noqa: SLF001

    async def _drive(self, verb: Verb[T]) -> T:
        return await self._registry._drive(verb)  # noqa: SLF001
