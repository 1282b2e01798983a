"""A claim whose holder is dead or late goes to whoever needs the artifact next."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import die, files, row, snapshot

from registry import (
    Artifact,
    ArtifactId,
    Claim,
    ClaimLost,
    Registry,
    RetryPolicy,
    State,
)
from registry.world.dropped import finish

pytestmark = pytest.mark.usefixtures("clock")

HALF_AN_HOUR = timedelta(minutes=30)
MICROSECOND = timedelta(microseconds=1)


def test_a_claim_is_safe_up_to_its_deadline_and_not_beyond(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    clock.tick(HALF_AN_HOUR - MICROSECOND)
    told = other.claim(id)
    assert isinstance(told, Artifact)
    clock.tick(MICROSECOND)
    assert isinstance(other.claim(id), Claim)
    with pytest.raises(ClaimLost):
        claim.extend(HALF_AN_HOUR)


def test_an_extended_claim_is_safe_up_to_its_new_deadline(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    clock.tick(timedelta(minutes=20))
    claim.extend(HALF_AN_HOUR)
    clock.tick(timedelta(minutes=20))
    assert isinstance(other.claim(id), Artifact)
    clock.tick(timedelta(minutes=10))
    assert isinstance(other.claim(id), Claim)


@pytest.mark.parametrize("why", ["deadline", "host_died"])
def test_a_takeover_is_recorded_as_a_failure(
    why: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    claim = registry.claim(id, label="primes.wat")
    before = row(cache, id)
    pass_over(why, cache, id, clock)
    rival = claimed(other, id)
    after = row(cache, id)
    assert before is not None
    assert after is not None
    assert (after["state"], after["num_failures"], after["error_kind"]) == ("preparing", 1, why)
    assert after["last_time_failed"] == after["retry_at"] == after["claimed_at"]
    assert after["deadline"] == after["claimed_at"] + 1_800_000_000
    assert after["error"]
    assert after["label"] == "primes.wat"
    assert after["created_at"] == before["created_at"]
    assert not {before["token"], before["path"]} & {after["token"], after["path"]}
    assert rival.artifact.num_failures == 1
    assert isinstance(claim, Claim)


def pass_over(why: str, cache: Path, id: ArtifactId, clock: FrozenDateTimeFactory) -> None:
    """Let a claim be one that may be passed over."""
    if why == "host_died":
        die(cache, id)
    else:
        clock.tick(HALF_AN_HOUR)


def test_a_handle_may_take_over_its_own_late_claim(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    late = claimed(registry, id)
    clock.tick(HALF_AN_HOUR)
    claim = claimed(registry, id)
    with pytest.raises(ClaimLost):
        late.publish(b"too late")
    claim.publish(b"compiled")
    assert list(files(cache).values()) == [b"compiled"]


@pytest.mark.parametrize("why", ["deadline", "host_died"])
def test_the_late_one_is_fenced_off_and_leaves_no_file(
    why: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    late = claimed(registry, id)
    pass_over(why, cache, id, clock)
    rival = claimed(other, id)
    before = snapshot(cache)
    for use in (
        lambda: late.publish(b"too late"),
        lambda: late.fail("too late"),
        late.release,
        lambda: late.extend(HALF_AN_HOUR),
    ):
        with pytest.raises(ClaimLost):
            use()
        assert snapshot(cache) == before
    rival.publish(b"compiled")
    assert list(files(cache).values()) == [b"compiled"]


def test_a_takeover_removes_what_the_late_one_had_written(
    registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    late = claimed(registry, id)
    reserved = row(cache, id)
    assert reserved is not None
    (cache / "artifacts" / f"{reserved['path']}.tmp").write_bytes(b"half of it")
    die(cache, id)
    claimed(other, id)
    assert files(cache) == {}
    assert not list(cache.glob(f"artifacts/{late.id.code_hash}*"))


def test_a_publisher_taken_for_dead_but_not_passed_over_still_publishes(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    """Liveness only decides who may ask; the token decides who may publish."""
    claim = claimed(registry, id)
    die(cache, id)
    assert claim.publish(b"compiled").state is State.PREPARED


@pytest.mark.parametrize("why", ["deadline", "host_died"])
def test_the_sixth_death_is_the_last(
    why: str, clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claims = [claimed(registry, id)]
    for deaths in range(1, 6):
        pass_over(why, cache, id, clock)
        claims.append(claimed(registry, id))
        assert claims[-1].artifact.num_failures == deaths
    pass_over(why, cache, id, clock)
    told = registry.claim(id)
    assert isinstance(told, Artifact)
    assert (told.state, told.num_failures, told.retry_at) == (State.FAILED, 6, None)
    assert told.error_kind == why
    before = snapshot(cache)
    clock.tick(timedelta(days=365))
    assert registry.claim(id) == told
    assert snapshot(cache) == before


@pytest.mark.parametrize("why", ["deadline", "host_died"])
@pytest.mark.parametrize("by", ["claim", "wait"])
def test_deaths_more_than_a_day_apart_do_not_add_up(
    why: str,
    by: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    held = []
    for day in range(12):
        held.append(claimed(other if day % 2 else registry, id))
        assert held[-1].artifact.num_failures == (1 if day and by == "claim" else 0)
        if by == "wait":
            pass_over(why, cache, id, clock)
            told = other.wait(id)
            assert told is not None
            assert told.num_failures == 1
        else:
            die(cache, id)
        clock.tick(timedelta(days=1))
    assert prepared(other, id).state is State.PREPARED


def test_deaths_less_than_a_day_apart_add_up(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    held = []
    for deaths in range(6):
        held.append(claimed(registry, id))
        assert held[-1].artifact.num_failures == deaths
        die(cache, id)
        clock.tick(timedelta(hours=23))
    told = registry.claim(id)
    assert isinstance(told, Artifact)
    assert (told.state, told.num_failures, told.retry_at) == (State.FAILED, 6, None)


def test_deaths_and_failures_count_together(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    for _ in range(5):
        failed(registry, id)
        clock.tick(timedelta(minutes=15))
    claim = claimed(registry, id)
    die(cache, id)
    told = registry.claim(id)
    assert isinstance(told, Artifact)
    assert (told.state, told.num_failures, told.retry_at) == (State.FAILED, 6, None)
    with pytest.raises(ClaimLost):
        claim.publish(b"too late")


def test_a_handles_own_policy_bounds_the_deaths_that_it_passes_over(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    die(cache, id)
    with Registry(cache, retry=RetryPolicy(max_retries=0)) as strict:
        told = strict.claim(id)
    assert isinstance(told, Artifact)
    assert (told.state, told.num_failures, told.retry_at) == (State.FAILED, 1, None)
    assert claim.id == id


def test_releasing_after_a_takeover_leaves_the_failure_that_it_recorded(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    late = claimed(registry, id)
    clock.tick(HALF_AN_HOUR)
    claimed(other, id).release()
    artifact = other.get(id)
    assert artifact is not None
    assert (artifact.state, artifact.num_failures) == (State.FAILED, 1)
    assert artifact.error_kind == "deadline"
    assert artifact.retry_at == artifact.last_time_failed
    assert isinstance(registry.claim(id), Claim)
    assert late.id == id


def test_publishing_after_a_takeover_forgets_the_failure(
    registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    late = claimed(registry, id)
    die(cache, id)
    artifact = prepared(other, id)
    assert (artifact.num_failures, artifact.error) == (0, None)
    assert late.id == id


@pytest.mark.parametrize("why", ["deadline", "host_died"])
def test_whoever_waits_for_it_ends_the_claim_but_does_not_take_it(
    why: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    late = claimed(registry, id)
    pass_over(why, cache, id, clock)
    artifact = other.wait(id)
    assert artifact is not None
    assert (artifact.state, artifact.error_kind) == (State.FAILED, why)
    assert artifact.num_failures == 1
    assert artifact.retry_at == artifact.last_time_failed
    assert isinstance(other.claim(id), Claim)
    assert late.id == id


@pytest.mark.parametrize("why", ["deadline", "host_died"])
def test_whoever_needs_it_prepares_it_at_once(
    why: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    late = claimed(registry, id)
    pass_over(why, cache, id, clock)
    assert other.get_or_prepare(id, lambda: b"compiled").state is State.PREPARED
    assert late.id == id


def test_opening_ends_the_claims_of_the_dead(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    dead, living = new_id(), new_id()
    claims = [claimed(registry, dead), claimed(registry, living)]
    die(cache, dead)
    with Registry(cache) as opened:
        found = opened.get(dead)
        assert found is not None
        assert (found.state, found.error_kind, found.num_failures) == ("failed", "host_died", 1)
        assert found.retry_at == found.last_time_failed
        alive = opened.get(living)
        assert alive is not None
        assert alive.state is State.PREPARING
    assert len(claims) == 2


def test_a_handle_that_nobody_holds_gives_its_claims_back(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    dropped = Registry(cache)
    claim = claimed(dropped, id)
    del dropped, claim
    gc.collect()
    finish()  # a thread of its own does it, maybe later
    assert row(cache, id) is None
