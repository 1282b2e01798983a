"""`Claim`: the right to prepare one artifact, for code that blocks."""

from __future__ import annotations

import os
from datetime import timedelta
from types import TracebackType
from typing import Literal, TypeVar

from registry.artifact import Artifact
from registry.base_claim import HeldClaim
from registry.blame import is_remembered
from registry.effects import Verb
from registry.errors import ClaimLost, HandleForked
from registry.sync.handle import SyncHandle
from registry.verbs import publish
from registry.verbs.handle import Handle

__all__ = ["Claim"]

T = TypeVar("T")


class Claim(HeldClaim[SyncHandle]):
    """The right to prepare one artifact, held until it is published, failed, released or lost.

    As a context manager: an exception inside fails the claim and is raised on; Ctrl-C, an exception
    that is not stored (`registry.blame`), or leaving without publishing, releases the claim. In the
    child of a fork nothing ends, for it is the parent's.
    """

    def publish(self, data: bytes | os.PathLike[str]) -> Artifact:
        """End the claim with the artifact's bytes, or with the path of a file, which is moved in.

        Prunes if the cache is over its limit then, but never what was just published.
        Raises `ClaimLost`, `InvalidData` (the claim is still yours), `DiskFull` (released).
        """
        return self._drive(publish.publish(self._handle, self._lease, data))

    def fail(
        self, error: str | BaseException, *, kind: str | None = None, retryable: bool = True
    ) -> Artifact:
        """End the claim with an error; one that is not `retryable` is never tried again by itself.

        Raises `ClaimLost`.
        """
        return self._drive(publish.fail(self._handle, self._lease, error, kind, retryable))

    def release(self) -> None:
        """Give the claim back without a failure; raises `ClaimLost`."""
        self._drive(publish.release(self._handle, self._lease))

    def extend(self, timeout: timedelta) -> None:
        """Move the deadline to `timeout` from now; raises `ClaimLost`.

        Until the deadline no process takes the claim over while this one lives, even if it hangs.
        """
        self._drive(publish.extend(self._handle, self._lease, timeout))

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> Literal[False]:
        if not self._lease.ended:
            try:
                if is_remembered(error):
                    self.fail(error)
                else:
                    self.release()
            except HandleForked:  # it is the parent's, and goes on there
                pass
            except ClaimLost:
                if error is None:
                    raise
        return False

    @property
    def _handle(self) -> Handle:
        return self._registry._handle  # noqa: SLF001

    def _drive(self, verb: Verb[T]) -> T:
        return self._registry._drive(verb)  # noqa: SLF001
