"""The common part of `Claim` and `AsyncClaim`: a lease, and the artifact that was claimed."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from registry.artifact import Artifact, ArtifactId
from registry.verbs import publish
from registry.verbs.handle import Handle, Lease

__all__ = ["HeldClaim"]


class _Opened(Protocol):
    _handle: Handle


Opener = TypeVar("Opener", bound=_Opened)


class HeldClaim(Generic[Opener]):
    """A claim and the handle that made it; `Claim` and `AsyncClaim` add the verbs."""

    def __init__(self, registry: Opener, lease: Lease) -> None:
        self._registry = registry
        self._lease = lease

    @property
    def id(self) -> ArtifactId:
        """The id of the claimed artifact."""
        return self._lease.id

    @property
    def artifact(self) -> Artifact:
        """The artifact when it was claimed: preparing, with the failures of earlier tries."""
        return self._registry._handle.artifact(publish.claimed_row(self._lease))  # noqa: SLF001

    def __repr__(self) -> str:
        ended = " (ended)" if self._lease.ended else ""
        return f"<{type(self).__name__} of {self._lease.id.short}{ended}>"
