"""What the hosts of an exhaustive walk do, each one verb after another, all with one artifact."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from registry.effects import Verb
from registry.verbs import check, claim, hosts, listing, need, prune, publish
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
    claimed = yield from claim.claim(handle, ID, SECOND)
    if isinstance(claimed, Lease):
        data = prepared_bytes(ID, handle.host_id, 1)
        yield from publish.publish(handle, claimed, data)


def failer(handle: Handle) -> Verb[None]:
    """Claim for a second, and fail."""
    claimed = yield from claim.claim(handle, ID, SECOND)
    if isinstance(claimed, Lease):
        yield from publish.fail(handle, claimed, "no luck")


def extender(handle: Handle) -> Verb[None]:
    """Claim for a second, extend that to an hour, and give the claim back."""
    claimed = yield from claim.claim(handle, ID, SECOND)
    if isinstance(claimed, Lease):
        yield from publish.extend(handle, claimed, timedelta(hours=1))
        yield from publish.release(handle, claimed)


def needer(handle: Handle) -> Verb[Any]:
    """Need."""
    return need.need(handle, ID)


def remover(handle: Handle) -> Verb[Any]:
    """Remove."""
    return listing.remove(handle, ID)


def pruner(handle: Handle) -> Verb[Any]:
    """Prune everything."""
    usage = yield from prune.read_usage(handle)
    return (yield from prune.prune(handle, usage, 0, timedelta(0)))


def sweeper(handle: Handle) -> Verb[Any]:
    """Sweep the files that no row refers to."""
    return check.sweep(handle)


def reaper(handle: Handle) -> Verb[Any]:
    """Reap the dead."""
    return hosts.reap_dead(handle)
