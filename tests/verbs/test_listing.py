"""Looking: get, list, find, and what is removed by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import change, files, fill, row, snapshot

from registry import (
    AmbiguousPrefix,
    ArtifactBusy,
    ArtifactId,
    AsyncRegistry,
    InvalidId,
    Registry,
    State,
    UnknownArtifact,
)


def listed(registry: Registry, state: State | None = None) -> list[ArtifactId]:
    return [artifact.id for artifact in registry.artifacts(state=state)]


# --- get ----------------------------------------------------------------------------------------


def test_getting_changes_nothing(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    unknown, ready = new_id(), prepared(registry, new_id())
    assert ready.path is not None
    ready.path.unlink()
    before = snapshot(cache)
    assert registry.get(unknown) is None
    assert registry.get(ready.id) == ready
    assert snapshot(cache) == before


def test_an_artifact_names_itself_by_its_label_where_it_has_one(
    registry: Registry, id: ArtifactId
) -> None:
    assert str(prepared(registry, id)) == id.short
    registry.remove(id)
    labelled = registry.get_or_prepare(id, lambda: b"compiled", label="primes.wat")
    assert str(labelled) == f"primes.wat ({id.short})"


# --- artifacts ----------------------------------------------------------------------------------


def test_the_most_recently_needed_come_first_and_those_never_needed_last(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    new_id: Callable[[], ArtifactId],
) -> None:
    broken = failed(registry, new_id()).id
    ready = []
    for _ in range(3):
        ready.append(prepared(registry, new_id()).id)
        clock.tick(timedelta(seconds=5))
    with claimed(registry, new_id()) as claim:
        registry.need(ready[0])
        assert listed(registry) == [ready[0], ready[2], ready[1], claim.id, broken]
        assert listed(registry, State.PREPARED) == [ready[0], ready[2], ready[1]]
        assert listed(registry, State.PREPARING) == [claim.id]
        assert listed(registry, State.FAILED) == [broken]


def test_an_empty_cache_lists_nothing(registry: Registry) -> None:
    assert [listed(registry, state) for state in (None, *State)] == [[]] * 4


@pytest.mark.parametrize("number", [499, 500, 501, 1234])
@pytest.mark.parametrize("step", [0, 1], ids=["all needed at once", "one after the other"])
def test_a_long_list_is_complete_and_in_order(
    number: int, step: int, registry: Registry, cache: Path
) -> None:
    ids = fill(cache, [1] * number, step=step)
    assert listed(registry) == ids[::-1]


def test_a_long_list_of_failures_is_complete(registry: Registry, cache: Path) -> None:
    ids = fill(cache, [1] * 501)
    for number, named in enumerate(ids):
        change_to_failed(cache, named, at=number)
    assert listed(registry, State.FAILED) == ids[::-1]
    assert listed(registry) == ids[::-1]


def change_to_failed(cache: Path, named: ArtifactId, at: int) -> None:
    gone = dict.fromkeys(("path", "size", "checksum", "last_time_needed"))
    change(cache, named, checked=True, state="failed", error="wrong", last_time_failed=at, **gone)


def test_what_is_listed_may_be_removed_while_it_is_listed(registry: Registry, cache: Path) -> None:
    ids = fill(cache, [1] * 1100, step=1)
    seen = []
    for artifact in registry.artifacts():
        seen.append(artifact.id)
        registry.remove(artifact.id)
    assert seen == ids[::-1]
    assert listed(registry) == []


def test_a_state_is_a_state_before_anything_is_listed(cache: Path) -> None:
    with Registry(cache) as registry, pytest.raises(TypeError):
        registry.artifacts(state="prepared")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        AsyncRegistry(cache).artifacts(state="prepared")  # type: ignore[arg-type]


# --- find ---------------------------------------------------------------------------------------


def test_an_artifact_is_found_by_the_first_digits_that_tell_it_apart(registry: Registry) -> None:
    first, second = ArtifactId("a" * 64, "b" * 64), ArtifactId("a" * 63 + "b", "c" * 64)
    third = ArtifactId("a" * 64, "c" * 64)
    for named in (first, second, third):
        prepared(registry, named, 1)
    assert registry.find("a" * 63 + "b") == second
    assert registry.find("a" * 64 + "/b") == first
    assert registry.find("a" * 64 + "/c") == third
    assert registry.find(str(third)) == third
    for vague in ("a", "a" * 63, "a" * 64, "a/c", "a" * 64 + "/"):
        with pytest.raises(AmbiguousPrefix, match="more digits"):
            registry.find(vague)
    for unknown in ("b", "0", "f" * 64, "a" * 64 + "/d", "ab"):
        with pytest.raises(UnknownArtifact):
            registry.find(unknown)


@pytest.mark.parametrize("digit", "0123456789abcdef")
def test_a_prefix_may_be_followed_by_any_digit(digit: str, registry: Registry) -> None:
    named = ArtifactId("b" + digit * 63, digit * 64)
    prepared(registry, named, 1)
    assert registry.find("b") == registry.find(named.code_hash) == registry.find(str(named))
    assert registry.find(f"b/{digit}") == named


@pytest.mark.parametrize(
    "wrong",
    ["", "A", "g", "/", "/b", "a" * 65, "a/b/c", "a b", "%", "a\n", "a" * 64 + "/" + "b" * 65],
)
def test_what_is_no_prefix_is_refused(wrong: str, registry: Registry) -> None:
    with pytest.raises(InvalidId):
        registry.find(wrong)


def test_a_prefix_is_text(registry: Registry) -> None:
    with pytest.raises(TypeError):
        registry.find(5)  # type: ignore[arg-type]


def test_an_artifact_is_found_in_every_state(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    broken = failed(registry, new_id())
    assert registry.find(broken.id.code_hash[:20]) == broken.id
    with claimed(registry, new_id()) as claim:
        assert registry.find(claim.id.code_hash[:20]) == claim.id


# --- remove -------------------------------------------------------------------------------------


def test_removing_takes_the_row_and_the_file(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id)
    assert registry.remove(id)
    assert row(cache, id) is None
    assert files(cache) == {}
    assert not registry.remove(id)


def test_removing_a_failure_forgets_it(registry: Registry, id: ArtifactId) -> None:
    failed(registry, id, retryable=False)
    assert registry.remove(id)
    assert registry.get_or_prepare(id, lambda: b"compiled").num_failures == 0


def test_what_is_being_prepared_is_not_removed(
    registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    with claimed(registry, id) as claim:
        before = snapshot(cache)
        for handle in (registry, other):
            with pytest.raises(ArtifactBusy, match=id.short):
                handle.remove(id)
        assert snapshot(cache) == before
        claim.publish(b"compiled")
    assert other.remove(id)
