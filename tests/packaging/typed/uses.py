"""How people use the public names, as type checkers see it; nothing here is run.

Each `assert_type` is an assertion; each line that ends in an ignore must be an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, assert_type

from registry import (
    Artifact,
    ArtifactId,
    AsyncClaim,
    AsyncRecipe,
    AsyncRegistry,
    Claim,
    CleanupConfig,
    Recipe,
    Registry,
    RetryPolicy,
    State,
    Stats,
    prepared,
)


@prepared(version=1)
def build(source: str, *, arch: str = "native") -> bytes:
    return source.encode()


@prepared(version={"gcc": "12"}, cache="cache", label="a kernel")
async def build_later(source: bytes) -> Path:
    return Path("made")


def decorated() -> None:
    assert_type(build("code", arch="gpu"), bytes)
    assert_type(build.artifact("code"), Artifact)
    assert_type(build.id("code"), ArtifactId)
    assert_type(build.remove("code"), bool)
    build(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    build()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    prepared()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def decorated_later() -> None:
    assert_type(await build_later(b"code"), bytes)
    assert_type(await build_later.artifact(b"code"), Artifact)
    assert_type(build_later.id(b"code"), ArtifactId)


def verbs(id: ArtifactId) -> None:
    with Registry("cache", cleanup=CleanupConfig(), retry=RetryPolicy()) as registry:
        assert_type(registry, Registry)
        assert_type(registry.get(id), Artifact | None)
        assert_type(registry.claim(id), Claim | Artifact)
        assert_type(registry.get_or_prepare(id, lambda: b"made"), Artifact)
        assert_type(registry.get_or_prepare(id, lambda: Path("made")), Artifact)
        assert_type(registry.open_file(id), BinaryIO)
        assert_type(registry.artifacts(state=State.PREPARED), Iterator[Artifact])
        assert_type(registry.prune(min_stale_time=timedelta(0)), list[Artifact])
        assert_type(registry.stats(), Stats)
        registry.get_or_prepare(id, lambda: "text")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
        registry.wait(id, timeout=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        @registry.artifact(version=1)
        def kernel(n: int, /) -> bytes:
            return bytes(n)

        assert_type(kernel, Recipe[[int]])
        assert_type(kernel(3), bytes)


async def _made() -> bytes:
    return b"made"


async def async_verbs(id: ArtifactId) -> None:
    async with AsyncRegistry("cache") as registry:
        assert_type(registry, AsyncRegistry)
        assert_type(await registry.need(id), Artifact | None)
        assert_type(await registry.claim(id), AsyncClaim | Artifact)
        assert_type(await registry.get_or_prepare(id, lambda: b"made"), Artifact)
        assert_type(await registry.get_or_prepare(id, _made), Artifact)
        assert_type(registry.artifacts(), AsyncIterator[Artifact])

        @registry.artifact(version=1)
        async def kernel(n: int, /) -> bytes:
            return bytes(n)

        assert_type(kernel, AsyncRecipe[[int]])
        assert_type(await kernel(3), bytes)


def narrowing(claimed: Claim | Artifact) -> Path | None:
    if isinstance(claimed, Claim):
        with claimed as claim:
            return claim.publish(b"made").path
    return claimed.path
