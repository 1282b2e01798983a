"""Artifacts to test with: small ones, made at once, of code that says what they are."""

from __future__ import annotations

from registry import Artifact, ArtifactId, PreparationFailed, PrepareError, Registry

__all__ = ["failed", "prepared"]


def prepared(
    registry: Registry, name: str, data: bytes = b"compiled", label: str | None = None
) -> Artifact:
    """Prepare the artifact of the code `name`."""
    return registry.get_or_prepare(ArtifactId.of(name.encode()), lambda: data, label=label or name)


def failed(registry: Registry, name: str, error: str = "no such luck") -> Artifact:
    """Fail to prepare the artifact of the code `name`, for good."""

    def prepare() -> bytes:
        raise PrepareError(error)

    try:
        registry.get_or_prepare(ArtifactId.of(name.encode()), prepare, label=name)
    except PreparationFailed as failure:
        assert failure.artifact is not None
        return failure.artifact
    raise AssertionError("it was prepared")
