"""A claim: who gets it, for how long, and what becomes of one that nobody holds.

How it ends with a file is told in `test_publish.py`, without one in `test_fail_and_release.py`, and
how it passes to another in `test_takeover.py`.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.between import name_of, recorded
from support.making import claimed, failed, prepared
from support.tables import row, rows, snapshot

from registry import (
    Artifact,
    ArtifactId,
    Claim,
    HandleClosed,
    InvalidData,
    InvalidSetting,
    Registry,
    RegistryBusy,
    State,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_MICROS = 1_767_268_800_000_000


# --- claiming -----------------------------------------------------------------------------------


def test_a_claim_reserves_a_file_name_and_is_held_for_half_an_hour(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = registry.claim(id, label="primes.wat")
    assert isinstance(claim, Claim)
    assert claim.id == id
    stored = row(cache, id)
    assert stored is not None
    assert re.fullmatch(r"[0-9a-f]{128}\.pvf", stored["path"])
    assert re.fullmatch(r"[0-9a-f]{32}", stored["token"])
    assert stored["state"] == "preparing"
    assert stored["claimed_at"] == stored["created_at"] == NOON_MICROS
    assert stored["deadline"] == NOON_MICROS + 30 * 60 * 1_000_000
    assert stored["label"] == "primes.wat"
    assert (cache / "hosts" / f"{stored['host_id']}.lock").exists()


def test_tokens_and_names_are_never_the_same_twice(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId], id: ArtifactId
) -> None:
    seen: set[str] = set()
    for claimed_id in [new_id() for _ in range(5)] + [id] * 5:
        with claimed(registry, claimed_id):
            stored = row(cache, claimed_id)
            assert stored is not None
            assert not {stored["token"], stored["path"]} & seen
            seen |= {stored["token"], stored["path"]}


@pytest.mark.parametrize("asker", ["registry", "other"])
def test_whoever_asks_for_what_is_being_prepared_is_told_by_whom(
    asker: str, clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    clock.tick(timedelta(seconds=1))
    told = {"registry": registry, "other": other}[asker].claim(id)
    assert isinstance(told, Artifact)
    assert told.state is State.PREPARING
    assert told.path is None
    assert told.size is None
    assert told.holder is not None
    assert (told.holder.pid, told.holder.hostname) == (os.getpid(), socket.gethostname())
    assert told.holder.since == NOON
    claim.release()


def test_a_claim_shows_the_artifact_as_it_found_it(registry: Registry, id: ArtifactId) -> None:
    failed(registry, id)
    registry.retry(id)
    found = claimed(registry, id).artifact
    assert (found.state, found.error) == (State.PREPARING, "it went wrong")


def test_a_claim_bumps_nothing_and_looks_at_no_file(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    path = prepared(registry, id).path
    assert path is not None
    path.unlink()
    clock.tick(timedelta(hours=1))
    before = snapshot(cache)
    told = registry.claim(id)
    assert isinstance(told, Artifact)
    assert told.state is State.PREPARED
    assert snapshot(cache) == before


def test_the_time_of_a_claim_can_be_its_own_and_else_is_the_setting(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
) -> None:
    first, second = new_id(), new_id()
    other.configure(prepare_timeout=timedelta(minutes=2))
    claims = [registry.claim(first, timeout=timedelta(seconds=7)), registry.claim(second)]
    held = [stored["deadline"] - NOON_MICROS for stored in rows(cache)]
    assert held == [7_000_000, 120_000_000]
    assert all(isinstance(claim, Claim) for claim in claims)


def test_extending_moves_the_deadline_to_so_long_from_now(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    before = row(cache, id)
    assert before is not None
    clock.tick(timedelta(minutes=10))
    claim.extend(timedelta(hours=1))
    # Only the time of day moved, as if it was set forth; the claim shows when it was extended then.
    moved = {"claimed_at": NOON_MICROS + 10 * 60 * 1_000_000}
    assert row(cache, id) == {**before, **moved, "deadline": NOON_MICROS + 70 * 60 * 1_000_000}


@pytest.mark.parametrize("number", [5, 1.5, "5 s", True])
def test_a_bare_number_is_no_time(number: object, registry: Registry, id: ArtifactId) -> None:
    claim = claimed(registry, id)
    for use in (
        lambda: registry.claim(id, timeout=number),
        lambda: registry.wait(id, timeout=number),
        lambda: registry.get_or_prepare(id, lambda: b"", timeout=number),
        lambda: registry.prune(min_stale_time=number),
        lambda: claim.extend(number),
    ):
        with pytest.raises(TypeError, match="timedelta"):
            use()


def test_time_does_not_run_backwards(registry: Registry, cache: Path, id: ArtifactId) -> None:
    claim = claimed(registry, id)
    before = snapshot(cache)
    for use in (
        lambda: registry.claim(ArtifactId.of(b"another"), timeout=timedelta(seconds=-1)),
        lambda: registry.wait(id, timeout=timedelta(seconds=-1)),
        lambda: claim.extend(timedelta(seconds=-1)),
    ):
        with pytest.raises(InvalidSetting):
            use()
    assert snapshot(cache) == before


@pytest.mark.parametrize("wrong", ["a" * 64, None, ("a" * 64, "a" * 64), b"code"])
def test_an_artifact_is_named_by_an_id(wrong: object, registry: Registry) -> None:
    for verb in (
        registry.get,
        registry.need,
        registry.claim,
        registry.wait,
        registry.open_file,
        registry.remove,
        registry.retry,
        lambda named: registry.get_or_prepare(named, lambda: b"compiled"),
    ):
        with pytest.raises(TypeError):
            verb(wrong)


# --- labels -------------------------------------------------------------------------------------


def test_a_label_stays_until_another_claim_gives_another(
    registry: Registry, id: ArtifactId
) -> None:
    for label, shown in (("first", "first"), (None, "first"), ("second", "second")):
        claim = registry.claim(id, label=label)
        assert isinstance(claim, Claim)
        assert claim.fail("it went wrong").label == shown
        registry.retry(id)


def test_a_label_is_cut_at_a_kibibyte_between_two_characters(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = registry.claim(id, label="x" + "ü" * 1000)
    assert isinstance(claim, Claim)
    stored = row(cache, id)
    assert stored is not None
    assert stored["label"] == "x" + "ü" * 511


@pytest.mark.parametrize(("label", "error"), [("a\0b", InvalidData), (5, TypeError)])
def test_a_label_that_cannot_be_stored_is_refused(
    label: object, error: type[Exception], registry: Registry, cache: Path, id: ArtifactId
) -> None:
    with pytest.raises(error, match="label"):
        registry.claim(id, label=label)  # type: ignore[arg-type]
    assert rows(cache) == []


# --- claims that nobody holds -------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [
        lambda handle, named: handle.need(named),
        lambda handle, named: handle.claim(named),
        lambda handle, named: handle.wait(named),
        lambda handle, named: handle.get_or_prepare(named, lambda: b"compiled"),
        lambda handle, named: handle.remove(named),
        lambda handle, named: handle.retry(named),
        lambda handle, _: handle.prune(),
        lambda handle, _: handle.check(),
    ],
    ids=["need", "claim", "wait", "get_or_prepare", "remove", "retry", "prune", "check"],
)
def test_a_dropped_claim_is_given_back_by_the_next_verb(
    verb: Callable[[Registry, ArtifactId], object],
    registry: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
) -> None:
    dropped, asked = new_id(), new_id()
    claimed(registry, dropped)
    gc.collect()
    verb(registry, asked)
    assert row(cache, dropped) is None


def test_a_dropped_claim_is_given_back_by_what_is_done_with_another_claim(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    claim, dropped = claimed(registry, new_id()), new_id()
    claimed(registry, dropped)
    claim.extend(timedelta(hours=1))
    assert row(cache, dropped) is None


def test_a_dropped_claim_does_not_take_a_later_one_with_it(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    keep = [claimed(registry, id)]
    clock.tick(timedelta(hours=1))
    rival = claimed(other, id)
    keep.clear()
    assert registry.need(id) is None
    assert rival.publish(b"compiled").state is State.PREPARED


def test_closing_gives_all_claims_back_without_a_failure(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    fresh, failed_before = new_id(), new_id()
    failed(registry, failed_before)
    registry.retry(failed_before)
    before = snapshot(cache)
    with Registry(cache) as closing:
        claims = [claimed(closing, fresh), claimed(closing, failed_before)]
    assert snapshot(cache) == before
    assert [repr(claim).endswith("(ended)>") for claim in claims] == [True, True]


def test_nothing_is_done_with_a_closed_handle(cache: Path, id: ArtifactId) -> None:
    with Registry(cache) as registry:
        prepared(registry, id)
        registry.need(id)  # hot now
    registry.close()  # twice is as good as once
    for verb in (
        lambda: registry.get(id),
        lambda: registry.need(id),
        lambda: registry.claim(id),
        lambda: registry.stats(),
        lambda: list(registry.artifacts()),
    ):
        with pytest.raises(HandleClosed):
            verb()


def test_a_database_that_stays_locked_is_waited_for_once_and_told_of_the_claim(
    registry: Registry, id: ArtifactId, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.verbs.database.PATIENCE_SECONDS", 0.2)
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with recorded(registry) as seen, pytest.raises(RegistryBusy, match="could not claim"):
            registry.claim(id)
        assert {name_of(effect) for effect in seen}.isdisjoint({"release", "restore"})
    assert registry.get(id) is None
    assert isinstance(registry.claim(id), Claim)
