"""Artifacts to test with: small ones, made at once, of code that says what they are."""

from __future__ import annotations

from registry import Artifact, ArtifactId, Claim, Registry

__all__ = ["failed", "prepared"]


def prepared(
    registry: Registry, name: str, data: bytes = b"compiled", label: str | None = None
) -> Artifact:
    """Prepare the artifact of the code `name`."""
    return registry.get_or_prepare(ArtifactId.of(name.encode()), lambda: data, label=label or name)


def failed(registry: Registry, name: str, error: str = "no such luck") -> Artifact:
    """Fail to prepare the artifact of the code `name`, for good."""
    claim = registry.claim(ArtifactId.of(name.encode()), label=name)
    assert isinstance(claim, Claim)
    return claim.fail(error, retryable=False)
