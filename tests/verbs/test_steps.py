"""How many steps a verb takes: each is a read, a write or a sync that somebody waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.between import Perform, between, name_of, recorded
from support.making import claimed

from registry import Artifact, ArtifactId, ClaimLost, DatabaseDamaged, Registry
from registry.effects import Effect, Unsure

LOOK_UP = ["read"]
CLAIM = ["Draw", "Elapsed", "Now", "claim"]
WRITE = ["Write", "Sync", "Rename", "SyncFolder"]
TAKE_IN = ["read", "TakeIn", "Sync", "Rename", "SyncFolder"]
PUBLISH = ["Elapsed", "Now", "publish"]
KEEP = ["usage"]


def compiled() -> bytes:
    return b"compiled"


def test_one_read_of_the_row_is_enough_to_prepare_an_artifact(
    registry: Registry, id: ArtifactId
) -> None:
    with recorded(registry) as seen:
        registry.get_or_prepare(id, compiled)

    steps = [name_of(effect) for effect in seen]
    assert steps == LOOK_UP + CLAIM + ["Call"] + WRITE + PUBLISH + KEEP


def test_before_a_file_of_the_user_is_moved_in_the_claim_is_read_again(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    def made() -> Path:
        path = tmp_path / "made"
        path.write_bytes(b"compiled")
        return path

    with recorded(registry) as seen:
        registry.get_or_prepare(id, made)

    steps = [name_of(effect) for effect in seen]
    assert steps == LOOK_UP + CLAIM + ["Call"] + TAKE_IN + PUBLISH + KEEP


def test_the_first_need_compares_the_checksum_and_later_needs_take_no_step(
    registry: Registry, id: ArtifactId
) -> None:
    registry.get_or_prepare(id, compiled)
    with recorded(registry) as first:
        registry.need(id)
    with recorded(registry) as later:
        registry.need(id)
        registry.get_or_prepare(id, compiled)

    assert [name_of(effect) for effect in first] == [
        *LOOK_UP,
        "Stat",
        "Checksum",
        "Now",
        "need",
        "MarkUse",
    ]
    assert later == []


def test_a_publish_that_may_have_been_committed_is_not_written_over(
    registry: Registry, id: ArtifactId
) -> None:
    def unsure(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        answer = perform(effect)
        if name_of(effect) == "publish":
            raise Unsure("disk I/O error")
        return answer

    claim = claimed(registry, id)
    with between(registry, unsure), pytest.raises(DatabaseDamaged):
        claim.publish(b"published")
    with pytest.raises(ClaimLost):
        claim.publish(b"other bytes")

    ready = registry.need(id)
    assert isinstance(ready, Artifact)
    assert ready.path is not None
    assert ready.path.read_bytes() == b"published"
