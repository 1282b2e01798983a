"""Artifacts made in one line."""

from __future__ import annotations

from registry import Artifact, ArtifactId, Claim, Registry

__all__ = ["claimed", "failed", "prepared"]


def claimed(registry: Registry, id: ArtifactId) -> Claim:
    """Claim what is there to be claimed."""
    claim = registry.claim(id)
    assert isinstance(claim, Claim), f"{id.short} is {claim.state}"
    return claim


def prepared(registry: Registry, id: ArtifactId, size: int = 1024) -> Artifact:
    """Publish so many bytes."""
    return claimed(registry, id).publish(b"x" * size)


def failed(registry: Registry, id: ArtifactId, *, retryable: bool = True) -> Artifact:
    """Fail to prepare."""
    return claimed(registry, id).fail("it went wrong", retryable=retryable)
