"""When a failure may be tried again: after 15 minutes, at most five times, or by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import row, snapshot

from registry import (
    Artifact,
    ArtifactId,
    Claim,
    InvalidSetting,
    PreparationFailed,
    PrepareError,
    Registry,
    RetryPolicy,
    State,
)

pytestmark = pytest.mark.usefixtures("clock")

COOLDOWN = timedelta(minutes=15)
MICROSECOND = timedelta(microseconds=1)


def may_be_tried(registry: Registry, id: ArtifactId) -> bool:
    """Whether a claim is to be had; it is given back, which changes nothing."""
    claim = registry.claim(id)
    if isinstance(claim, Artifact):
        assert claim.state is State.FAILED
        return False
    claim.release()
    return True


def must_not_run() -> bytes:
    raise AssertionError("this must not be prepared now")


def test_a_failure_may_be_tried_again_after_exactly_fifteen_minutes(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    told = failed(registry, id)
    before = snapshot(cache)
    clock.tick(COOLDOWN - MICROSECOND)
    assert registry.claim(id) == told
    assert snapshot(cache) == before
    clock.tick(MICROSECOND)
    assert may_be_tried(registry, id)


def test_the_first_failure_and_five_retries_and_no_more(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    for failures in range(1, 6):
        told = failed(registry, id)
        assert told.num_failures == failures
        assert told.retry_at is not None
        clock.tick(COOLDOWN)
    last = failed(registry, id)
    assert (last.num_failures, last.retry_at) == (6, None)
    clock.tick(timedelta(days=3650))
    assert not may_be_tried(registry, id)


def test_a_deterministic_failure_is_never_tried_again_by_itself(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    told = failed(registry, id, retryable=False)
    assert (told.num_failures, told.retry_at) == (1, None)
    clock.tick(timedelta(days=3650))
    assert not may_be_tried(registry, id)


def test_a_success_starts_the_count_anew(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    for _ in range(3):
        failed(registry, id)
        clock.tick(COOLDOWN)
    prepared(registry, id)
    registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    assert failed(registry, id).num_failures == 1


def test_releasing_counts_as_no_failure(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    failed(registry, id)
    clock.tick(COOLDOWN)
    for _ in range(10):
        assert may_be_tried(registry, id)
    assert failed(registry, id).num_failures == 2


# --- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["too early", "too often", "deterministic"])
def test_a_retry_by_hand_is_obeyed_at_once_and_starts_the_count_anew(
    how: str, clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    failed(registry, id, retryable=how != "deterministic")
    if how == "too often":
        for _ in range(5):
            clock.tick(COOLDOWN)
            failed(registry, id)
    assert not may_be_tried(registry, id)
    assert registry.retry(id)
    told = registry.get(id)
    assert told is not None
    assert (told.state, told.num_failures) == (State.FAILED, 0)
    assert told.error == "it went wrong"  # kept, for reading
    assert may_be_tried(registry, id)
    assert failed(registry, id).num_failures == 1


def test_only_what_failed_can_be_retried(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    unknown, preparing, ready = new_id(), new_id(), new_id()
    claim = claimed(registry, preparing)
    prepared(registry, ready)
    assert [registry.retry(named) for named in (unknown, preparing, ready)] == [False] * 3
    claim.release()


# --- remembered ---------------------------------------------------------------------------------


def test_a_failure_is_remembered_across_restarts_and_its_message_replayed(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId
) -> None:
    def prepare() -> bytes:
        raise PrepareError("bad code at byte 7", kind="compile")

    with Registry(cache) as first, pytest.raises(PreparationFailed):
        first.get_or_prepare(id, prepare)
    clock.tick(timedelta(days=1))
    with Registry(cache) as second:
        before = snapshot(cache)
        with pytest.raises(PreparationFailed, match="bad code at byte 7") as caught:
            second.get_or_prepare(id, must_not_run)
        assert snapshot(cache) == before
        told = caught.value.artifact
        assert told == second.get(id)
        assert told is not None
        assert (told.error_kind, told.num_failures, told.retry_at) == ("compile", 1, None)
        assert caught.value.__cause__ is None


def test_after_the_cooldown_a_remembered_failure_is_prepared_again(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId
) -> None:
    with Registry(cache) as first:
        failed(first, id)
    clock.tick(COOLDOWN)
    with Registry(cache) as second:
        assert second.get_or_prepare(id, lambda: b"compiled").state is State.PREPARED


# --- the policy ---------------------------------------------------------------------------------


def test_a_policy_of_a_handle_holds_for_that_handle_only(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId, new_id: Callable[[], ArtifactId]
) -> None:
    policy = RetryPolicy(max_retries=1, cooldown=timedelta(seconds=10))
    with Registry(cache) as plain, Registry(cache, retry=policy) as eager:
        plain.configure(max_retries=9, retry_cooldown=timedelta(hours=2))
        first = failed(eager, id)
        assert first.last_time_failed is not None
        assert first.retry_at == first.last_time_failed + timedelta(seconds=10)
        clock.tick(timedelta(seconds=10))
        assert failed(eager, id).retry_at is None
        patient = failed(plain, new_id())
        assert patient.last_time_failed is not None
        assert patient.retry_at == patient.last_time_failed + timedelta(hours=2)


def test_a_policy_overrides_both_fields_even_where_it_only_names_one(
    cache: Path, id: ArtifactId
) -> None:
    with Registry(cache, retry=RetryPolicy(max_retries=7)) as registry:
        registry.configure(retry_cooldown=timedelta(hours=2))
        told = failed(registry, id)
    assert told.last_time_failed is not None
    assert told.retry_at == told.last_time_failed + COOLDOWN


def test_a_claim_looks_at_the_time_that_was_stored_and_at_nothing_else(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId
) -> None:
    never = RetryPolicy(max_retries=0, cooldown=timedelta(days=1))
    with Registry(cache) as plain, Registry(cache, retry=never) as strict:
        failed(plain, id)
        clock.tick(COOLDOWN)
        assert may_be_tried(strict, id)


def test_a_changed_setting_is_obeyed_at_once_by_every_handle(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    new_id: Callable[[], ArtifactId],
) -> None:
    other.configure(max_retries=0)
    assert failed(registry, new_id()).retry_at is None
    other.configure(max_retries=5, retry_cooldown=timedelta(0))
    failed(registry, id)
    assert may_be_tried(registry, id)


def test_no_cooldown_still_ends_after_the_last_retry(registry: Registry, id: ArtifactId) -> None:
    registry.configure(retry_cooldown=timedelta(0), max_retries=2)
    for _ in range(3):
        failed(registry, id)
    assert not may_be_tried(registry, id)


def test_what_waits_for_its_retry_is_seen_from_outside(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    failed(registry, id)
    stored = row(cache, id)
    assert stored is not None
    assert stored["retry_at"] - stored["last_time_failed"] == 15 * 60 * 1_000_000
    clock.tick(COOLDOWN)
    assert isinstance(registry.claim(id), Claim)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"max_retries": -1}, InvalidSetting),
        ({"max_retries": 1.5}, TypeError),
        ({"max_retries": True}, TypeError),
        ({"cooldown": timedelta(seconds=-1)}, InvalidSetting),
        ({"cooldown": timedelta.max}, InvalidSetting),
        ({"cooldown": 900}, TypeError),
    ],
)
def test_a_policy_that_cannot_be_is_refused(
    wrong: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
