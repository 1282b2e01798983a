"""What the hosts of an exhaustive walk do, each one verb after another, all with one artifact."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from registry.effects import Verb
from registry.verbs import claiming, hosting, looking, needing, pruning, publishing, reconciling
from registry.verbs.handle import Handle, Lease

from .content import prepared_bytes
from .schedule import ARTIFACTS

__all__ = [
    "extender",
    "failer",
    "needer",
    "pruner",
    "publisher",
    "reaper",
    "remover",
    "sweeper",
]

ID = ARTIFACTS[0]
SECOND = timedelta(seconds=1)


def publisher(handle: Handle) -> Verb[None]:
    """Claim for a second, and publish."""
    claimed = yield from claiming.claim(handle, ID, SECOND)
    if isinstance(claimed, Lease):
        data = prepared_bytes(ID, handle.host_id, 1)
        yield from publishing.publish(handle, claimed, data)


def failer(handle: Handle) -> Verb[None]:
    """Claim for a second, and fail."""
    claimed = yield from claiming.claim(handle, ID, SECOND)
    if isinstance(claimed, Lease):
        yield from publishing.fail(handle, claimed, "no luck")


def extender(handle: Handle) -> Verb[None]:
    """Claim for a second, extend that to an hour, and give the claim back."""
    claimed = yield from claiming.claim(handle, ID, SECOND)
    if isinstance(claimed, Lease):
        yield from publishing.extend(handle, claimed, timedelta(hours=1))
        yield from publishing.release(handle, claimed)


def needer(handle: Handle) -> Verb[Any]:
    """Need."""
    return needing.need(handle, ID)


def remover(handle: Handle) -> Verb[Any]:
    """Remove."""
    return looking.remove(handle, ID)


def pruner(handle: Handle) -> Verb[Any]:
    """Prune everything."""
    usage = yield from pruning.read_usage(handle)
    return (yield from pruning.prune(handle, usage, 0, timedelta(0)))


def sweeper(handle: Handle) -> Verb[Any]:
    """Sweep the files that no row refers to."""
    return reconciling.sweep(handle)


def reaper(handle: Handle) -> Verb[Any]:
    """Reap the dead."""
    return hosting.reap_dead(handle)
