"""Ending a claim with a file, and the row of it; `world/test_files.py` tells of the file itself."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import xxhash
from freezegun.api import FrozenDateTimeFactory
from support.between import Perform, between
from support.making import claimed, failed
from support.tables import die, files, row, usage

from registry import ArtifactId, Claim, ClaimLost, Registry, State
from registry.effects import Effect


@pytest.fixture
def claim(registry: Registry, id: ArtifactId) -> Claim:
    return claimed(registry, id)


def test_bytes_become_a_read_only_file_under_the_reserved_name(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    reserved = row(cache, id)
    assert reserved is not None
    clock.tick(timedelta(seconds=3))
    artifact = claim.publish(b"compiled")
    assert artifact == registry.get(id)
    assert artifact.state is State.PREPARED
    assert artifact.path == cache / "artifacts" / reserved["path"]
    assert artifact.path.is_absolute()
    assert files(cache) == {reserved["path"]: b"compiled"}
    assert stat.S_IMODE(artifact.path.stat().st_mode) == 0o400
    assert artifact.size == 8
    assert artifact.checksum == xxhash.xxh3_128_hexdigest(b"compiled")
    assert artifact.last_time_needed == datetime(2026, 1, 1, 12, 0, 3, tzinfo=UTC)
    assert artifact.holder is None
    assert artifact.prepare_seconds is not None
    assert artifact.prepare_seconds >= 0
    assert usage(cache) == ((1, 8), (1, 8))


def test_the_row_of_a_publisher_holds_no_claim_any_more(
    claim: Claim, cache: Path, id: ArtifactId
) -> None:
    claim.publish(b"compiled")
    stored = row(cache, id)
    assert stored is not None
    names = ("token", "host_id", "claimed_at", "deadline")
    assert [stored[name] for name in names] == [None] * 4


def test_publishing_forgets_all_failures(registry: Registry, id: ArtifactId) -> None:
    failed(registry, id)
    registry.retry(id)
    artifact = claimed(registry, id).publish(b"compiled")
    assert artifact.num_failures == 0
    assert artifact.error is artifact.error_kind is artifact.retry_at is None
    assert artifact.last_time_failed is None


def test_a_lost_claim_does_not_take_the_file_of_its_publisher(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    tmp_path: Path,
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"compiled")
    late = claimed(registry, id)
    clock.tick(timedelta(hours=1))
    claimed(other, id).publish(b"compiled by another")
    with pytest.raises(ClaimLost):
        late.publish(made)
    assert made.read_bytes() == b"compiled"


@pytest.mark.parametrize("moment", range(8))
def test_who_is_overtaken_at_any_moment_of_publishing_either_was_first_or_lost(
    moment: int, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    claim, told = claimed(registry, id), []

    def act(number: int, effect: Effect[Any], perform: Perform) -> Any:
        if number == moment:
            if stored_state(cache, id) == "preparing":
                die(cache, id)
            told.append(other.claim(id))
        return perform(effect)

    wanted = b"compiled"
    with between(registry, act):
        try:
            claim.publish(wanted)
        except ClaimLost:
            assert files(cache) == {}
            (rival,) = told
            wanted = b"compiled by another"
            rival.publish(wanted)
    assert list(files(cache).values()) == [wanted]
    assert registry.check(checksums=True).ok


@pytest.mark.parametrize("moment", range(8))
def test_of_two_who_publish_through_one_claim_at_once_one_is_first_and_one_has_lost(
    moment: int, registry: Registry, claim: Claim, cache: Path
) -> None:
    """They share the token and the names of the files, so nothing in the table tells them apart."""
    told: list[str] = []

    def act(number: int, effect: Effect[Any], perform: Perform) -> Any:
        if number == moment:
            with pytest.raises(ClaimLost) as raised:
                claim.publish(b"by another thread")
            told.append(str(raised.value))
        return perform(effect)

    with between(registry, act):
        assert claim.publish(b"compiled").size == 8
    assert list(files(cache).values()) == [b"compiled"]
    assert registry.check(checksums=True).ok
    assert len(told) == 1


def stored_state(cache: Path, id: ArtifactId) -> str:
    stored = row(cache, id)
    assert stored is not None
    state: str = stored["state"]
    return state
