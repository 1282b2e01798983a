"""What a `Host` asks of the handle that it was given, and no other code does."""

# ruff: noqa: SLF001 - this module is a part of the handle, as `claim.py` is

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry.aio.registry import AsyncRegistry
from registry.artifact import Artifact, ArtifactId
from registry.verbs import claim, need, publish
from registry.verbs.handle import Lease
from registry.verbs.prepare import prepare_or_join
from registry.world import clock

__all__ = [
    "extend_lease",
    "is_claimable",
    "measure_from_now",
    "prepare_under_claim",
    "reject",
    "workers_folder",
]


def workers_folder(registry: AsyncRegistry) -> Path:
    """Where the workers of this handle live; it goes with the handle, or with its reaper."""
    handle = registry._opened
    return handle.cache / "workers" / handle.host_id


async def is_claimable(registry: AsyncRegistry, id: ArtifactId) -> bool:
    """Whether a claim may succeed; then a host needs a worker."""
    return await registry._drive(claim.may_be_claimed(registry._opened, id))


async def prepare_under_claim(
    registry: AsyncRegistry,
    id: ArtifactId,
    prepare: Callable[[], Any],
    *,
    held: timedelta,
    claimed: Callable[[Lease], None],
    label: str | None = None,
    kind: str | None = None,
) -> Artifact:
    """As `get_or_prepare` after a miss; the claim lasts `held`, and `claimed` is told of it."""
    verb = prepare_or_join(
        registry._opened, id, prepare, None, label, kind, held=held, on_claim=claimed
    )
    return await registry._drive(verb)


def measure_from_now(lease: Lease) -> None:
    """Measure the preparation from now on: until now the claim has only waited."""
    lease.since = clock.elapsed()


async def extend_lease(registry: AsyncRegistry, lease: Lease, timeout: timedelta) -> None:
    """Extend a claim of `prepare_under_claim`."""
    await registry._drive(publish.extend(registry._opened, lease, timeout))


async def reject(registry: AsyncRegistry, artifact: Artifact) -> None:
    """Remove an artifact that an execution found damaged, unless it was replaced since."""
    await registry._drive(need.reject(registry._opened, artifact))
