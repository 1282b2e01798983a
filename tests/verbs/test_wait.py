"""Waiting for what another prepares."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.between import Perform, between
from support.making import claimed, failed, prepared
from support.tables import snapshot
from support.threads import PATIENCE, crew, waiters

from registry import Artifact, ArtifactId, HandleClosed, Registry, State, WaitTimeout
from registry.effects import Doze, Effect, WriteMark
from registry.verbs import wait as waiting_verb


@pytest.mark.parametrize("end", ["published", "failed", "released"])
def test_who_waits_gets_what_came_of_it(
    end: str, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    with waiters() as waiting, crew(1) as pool:
        waiter = pool.submit(other.wait, id)
        waiting.await_(1)
        wanted: Artifact | None = None
        match end:
            case "published":
                wanted = claim.publish(b"compiled")
            case "failed":
                wanted = claim.fail("it went wrong")
            case _:
                claim.release()
        assert waiter.result(PATIENCE) == wanted


@pytest.mark.parametrize("state", ["unknown", "prepared", "failed"])
def test_there_is_nothing_to_wait_for_where_nobody_prepares(
    state: str, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    wanted = {
        "unknown": lambda: None,
        "prepared": lambda: prepared(registry, id),
        "failed": lambda: failed(registry, id),
    }[state]()
    before = snapshot(cache)
    assert registry.wait(id) == wanted
    assert registry.wait(id, timeout=timedelta(0)) == wanted
    assert snapshot(cache) == before


@pytest.mark.parametrize("milliseconds", [0, 1, 20])
def test_waiting_ends_with_the_time_out_and_changes_nothing(
    milliseconds: int, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    before = snapshot(cache)
    with pytest.raises(WaitTimeout, match=id.short):
        other.wait(id, timeout=timedelta(milliseconds=milliseconds))
    assert snapshot(cache) == before
    claim.release()


def test_the_time_out_runs_although_the_clock_stands_still(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    with pytest.raises(WaitTimeout):
        other.wait(id, timeout=timedelta(milliseconds=20))
    claim.release()


def test_a_handle_can_wait_for_a_claim_of_its_own(registry: Registry, id: ArtifactId) -> None:
    claim = claimed(registry, id)
    with waiters() as waiting, crew(1) as pool:
        waiter = pool.submit(registry.wait, id)
        waiting.await_(1)
        artifact = claim.publish(b"compiled")
        assert waiter.result(PATIENCE) == artifact


def test_many_wait_for_many_through_one_handle(
    registry: Registry, other: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    claims = [claimed(registry, new_id()) for _ in range(5)]
    with waiters() as waiting, crew(20) as pool:
        asked = [(claim.id, pool.submit(other.wait, claim.id)) for claim in claims * 4]
        waiting.await_(20)
        for claim in reversed(claims):
            claim.publish(b"compiled")
        for named, waiter in asked:
            artifact = waiter.result(PATIENCE)
            assert artifact is not None
            assert (artifact.id, artifact.state) == (named, State.PREPARED)


def test_one_whose_time_is_up_leaves_the_others_waiting(
    registry: Registry,
    other: Registry,
    new_id: Callable[[], ArtifactId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first to come polls for all; when it goes, one of the others must be woken."""
    monkeypatch.setattr(waiting_verb, "LONGEST_SLEEP_SECONDS", 2 * PATIENCE)
    claims = [claimed(registry, new_id()) for _ in range(2)]
    with waiters() as waiting, crew(3) as pool:
        first = pool.submit(other.wait, claims[0].id, timeout=timedelta(milliseconds=50))
        waiting.await_(1)
        second = pool.submit(other.wait, claims[0].id)
        third = pool.submit(other.wait, claims[1].id)
        waiting.await_(2)
        assert isinstance(first.exception(PATIENCE), WaitTimeout)
        for claim in claims:
            claim.publish(b"compiled")
        assert {one.result(PATIENCE).id for one in (second, third)} == {c.id for c in claims}


def test_a_row_that_settles_unseen_is_seen_all_the_same(
    registry: Registry, other: Registry, id: ArtifactId
) -> None:
    """The -wal file may look as before: its time is coarse, and a writer may be held up."""
    claim, published = claimed(registry, id), []

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        if isinstance(effect, WriteMark):
            return (4096, 1)
        if isinstance(effect, Doze) and not published:
            published.append(claim.publish(b"compiled"))
        return perform(effect)

    with between(other, act):
        settled = other.wait(id, timeout=timedelta(seconds=PATIENCE))
    assert [settled] == published


def test_who_waits_is_told_who_prepares_and_how_long_it_took_before(
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepared(registry, ArtifactId.of(b"code 0", {"opt": 2}))
    assert id == ArtifactId.of(b"code 0")
    claim = claimed(registry, id)
    with caplog.at_level(logging.INFO, "registry"), pytest.raises(WaitTimeout):
        other.wait(id, timeout=timedelta(0))
    assert f"process {os.getpid()}" in caplog.text
    assert "it took 0." in caplog.text
    claim.release()


def test_closing_a_handle_ends_its_waiting(registry: Registry, cache: Path, id: ArtifactId) -> None:
    claim = claimed(registry, id)
    closing = Registry(cache)
    with waiters() as waiting, crew(3) as pool:
        asked = [pool.submit(closing.wait, id) for _ in range(3)]
        waiting.await_(3)
        closing.close()
        assert {type(one.exception(PATIENCE)) for one in asked} == {HandleClosed}
    claim.publish(b"compiled")


def test_a_claim_can_be_published_by_another_thread(registry: Registry, id: ArtifactId) -> None:
    claim = claimed(registry, id)
    with crew(1) as pool:
        artifact = pool.submit(claim.publish, b"compiled").result(PATIENCE)
    assert registry.get(id) == artifact
