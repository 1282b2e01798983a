"""Artifacts by kind and by code: kept, listed, counted, pruned, removed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.frozen import FROZEN, thawed
from support.making import claimed
from support.tables import files

from registry import (
    ArtifactId,
    AsyncRegistry,
    Claim,
    InvalidData,
    InvalidId,
    PrepareError,
    Registry,
    State,
    metrics,
    prepared,
)
from registry.opening import migrate

NOW = timedelta(0)
CODE = b"some code"
WAYS = [ArtifactId.of(CODE, {"way": number}) for number in range(3)]


def failing() -> bytes:
    raise PrepareError("no")


@pytest.fixture
def full(registry: Registry) -> Registry:
    """Three of one code and two of another, of the kinds triton, numba and none."""
    for one, kind in zip(WAYS, ("triton", "numba", None), strict=True):
        registry.put(one, b"x" * 100, kind=kind)
    for number in range(2):
        registry.put(ArtifactId.of(b"other", {"n": number}), b"y" * 10, kind="triton")
    return registry


def test_a_kind_is_kept_on_its_way(registry: Registry, new_id: Callable[[], ArtifactId]) -> None:
    for make in (
        lambda one: claimed_as(registry, one, "a.b-c_1").publish(b"data"),
        lambda one: registry.get_or_prepare(one, lambda: b"data", kind="a.b-c_1"),
        lambda one: registry.put(one, b"data", kind="a.b-c_1"),
    ):
        one = new_id()
        assert make(one).kind == "a.b-c_1"
        for found in (registry.get(one), registry.need(one), registry.need(one)):
            assert found is not None
            assert found.kind == "a.b-c_1"


def claimed_as(registry: Registry, id: ArtifactId, kind: str) -> Claim:
    claim = registry.claim(id, kind=kind)
    assert isinstance(claim, Claim)
    return claim


def test_a_kind_outlives_a_failure_and_is_replaced_by_a_new_one(
    registry: Registry, id: ArtifactId
) -> None:
    claimed_as(registry, id, "numba").fail("it went wrong")
    assert registry.retry(id)
    claimed(registry, id).release()
    found = registry.get(id)
    assert found is not None
    assert found.kind == "numba"
    assert registry.put(id, b"data", kind="triton").kind == "triton"


@pytest.mark.parametrize("kind", ["", "x" * 33, "Triton", "a b", "ä", "a\n", "a\0"])
def test_what_is_no_kind_is_refused_everywhere(full: Registry, kind: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: full.claim(WAYS[0], kind=kind),
        lambda: full.get_or_prepare(WAYS[0], lambda: b"", kind=kind),
        lambda: full.put(WAYS[0], b"data", kind=kind),
        lambda: full.artifacts(kind=kind),
        lambda: full.remove_all(kind=kind),
        lambda: full.prune(kind=kind),
        lambda: prepared(version=1, name="f", kind=kind)(lambda: b""),
    ]
    for call in calls:
        with pytest.raises(InvalidData, match="kind"):
            call()
    assert full.stats().prepared_count == 5


def test_a_decorated_function_is_of_the_kind_python_or_its_own(cache: Path) -> None:
    plain = prepared(version=1, name="plain", cache=cache)(lambda: b"1")
    own = prepared(version=1, name="own", cache=cache, kind="mine")(lambda: b"2")
    assert (plain.artifact().kind, own.artifact().kind) == ("python", "mine")


def test_a_listing_is_by_kind_by_code_and_by_state(full: Registry) -> None:
    with pytest.raises(Exception, match="no"):
        full.get_or_prepare(ArtifactId.of(CODE, {"way": 9}), failing, kind="numba")
    assert [it.id for it in full.artifacts(kind="numba", state=State.PREPARED)] == [WAYS[1]]
    assert {it.state for it in full.artifacts(kind="numba")} == {State.PREPARED, State.FAILED}
    for code in (CODE, WAYS[0].code_hash):
        found = list(full.artifacts(code=code))
        assert [it.id.prep_hash for it in found] == sorted(it.id.prep_hash for it in found)
        assert len(found) == 4
    assert len(list(full.artifacts(code=CODE, state=State.FAILED))) == 1
    assert [it.id for it in full.artifacts(code=CODE, kind="triton")] == [WAYS[0]]
    with pytest.raises(InvalidId):
        full.artifacts(code="some code")


def test_a_code_with_more_ways_than_a_page_is_listed_whole(registry: Registry) -> None:
    ids = {ArtifactId.of(CODE, {"way": number}) for number in range(120)}
    for one in ids:
        registry.put(one, b"data")
    assert {it.id for it in registry.artifacts(code=CODE)} == ids
    assert registry.remove_all(code=CODE) == 120
    assert registry.stats().prepared_count == 0


def test_stats_and_metrics_are_by_kind(full: Registry) -> None:
    by_kind = full.stats().by_kind
    assert list(by_kind) == ["triton", "numba"]
    held = by_kind["triton"]
    assert (held.prepared_count, held.prepared_bytes, held.failed_count) == (3, 120, 0)
    assert 'registry_kind_prepared_bytes{kind="triton"} 120.0' in metrics.text(full)


def test_pruning_a_kind_takes_its_oldest_and_counts_only_its_bytes(full: Registry) -> None:
    would = full.prune(cache_limit=20, min_stale_time=NOW, kind="triton", dry_run=True)
    gone = full.prune(cache_limit=20, min_stale_time=NOW, kind="triton")
    assert [it.id for it in would] == [it.id for it in gone] == [WAYS[0]]
    assert full.stats().prepared_count == 4
    assert full.prune(cache_limit=0, kind="triton") == []  # needed lately
    assert full.check(checksums=True).ok


def test_remove_all_takes_what_is_asked_for(full: Registry, cache: Path) -> None:
    held = claimed_as(full, ArtifactId.of(CODE, {"way": "held"}), "triton")
    with pytest.raises(Exception, match="no"):
        full.get_or_prepare(ArtifactId.of(b"bad"), failing, kind="triton")
    assert full.remove_all(code=CODE, kind="triton") == 1
    assert full.remove_all(code=b"nothing of it") == 0
    assert full.remove_all(kind="triton") == 3
    assert [event.event for event in full.history(WAYS[0])][-1] == "removed"
    assert full.remove_all() == 2
    assert list(full.artifacts()) == [full.get(held.id)]
    assert held.publish(b"data").kind == "triton"
    assert len(files(cache)) == 1
    assert full.check(checksums=True).ok


def test_the_async_twin_does_the_same(full: Registry, cache: Path) -> None:
    async def go() -> None:
        async with AsyncRegistry(cache) as twin:
            assert [it.id async for it in twin.artifacts(kind="numba")] == [WAYS[1]]
            assert len([it async for it in twin.artifacts(code=CODE)]) == 3
            assert await twin.prune(cache_limit=0, min_stale_time=NOW, kind="numba")
            assert await twin.remove_all(code=CODE) == 2
            assert await twin.remove_all() == 2

    asyncio.run(go())
    assert full.stats().prepared_count == 0


@pytest.mark.parametrize("revision", FROZEN)
def test_an_older_cache_gets_kinds_and_loses_only_them_on_the_way_back(
    revision: str, tmp_path: Path
) -> None:
    cache = thawed(revision, tmp_path / "cache")
    with Registry(cache) as registry:
        before = list(registry.artifacts(state=State.PREPARED))
        assert {it.kind for it in before} == {None}
        registry.put(WAYS[0], b"data", kind="triton")
    migrate.downgrade(str(cache / "registry.db"), "0005")
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM artifacts").fetchone()
    assert count >= len(before) + 1
    with Registry(cache) as registry:
        found = registry.get(WAYS[0])
        assert found is not None
        assert (found.state, found.kind) == (State.PREPARED, None)
        assert registry.read(WAYS[0]) == b"data"


def test_a_row_of_a_host_of_the_version_before_has_no_kind(full: Registry, cache: Path) -> None:
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO artifact (code_hash, prep_hash, state, error, last_time_failed)"
            " VALUES (?, ?, 'failed', 'e', 1)",
            ("a" * 64, "b" * 64),
        )
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE artifact SET kind = 'No kind'")
        kinds = connection.execute("SELECT kind, prepared, failed FROM kinds").fetchall()
    assert sorted(kinds, key=str) == [("numba", 1, 0), ("triton", 3, 0), (None, 1, 1)]
