"""Put: store bytes that are there already, under a claim that is made and ended at once."""

from __future__ import annotations

from os import PathLike

from registry.artifact import Artifact, ArtifactId, State, require_id
from registry.effects import Verb
from registry.errors import ArtifactBusy
from registry.verbs.claim import claim_seen
from registry.verbs.handle import Handle, Lease
from registry.verbs.lease import or_give_back
from registry.verbs.need import look_up
from registry.verbs.publish import publish, require_data
from registry.verbs.text import as_kind, as_label

__all__ = ["put"]


def put(
    handle: Handle,
    id: ArtifactId,
    data: bytes | PathLike[str],
    label: str | None = None,
    kind: str | None = None,
) -> Verb[Artifact]:
    """Publish an artifact, or answer the one that is prepared; raises `ArtifactBusy`."""
    require_id(id)
    require_data(id, data)
    as_label(label)
    as_kind(kind)
    while True:
        found = yield from look_up(handle, id)
        if isinstance(found, Artifact):
            return found
        claimed = yield from claim_seen(handle, id, found, None, label, kind, anyway=True)
        if isinstance(claimed, Lease):
            return (yield from or_give_back(handle, claimed, publish(handle, claimed, data)))
        if claimed.state is State.PREPARING:
            raise ArtifactBusy(
                f"{id.short} is being prepared, by another process or under a claim of this one; "
                "wait for it, or publish through that claim"
            )
