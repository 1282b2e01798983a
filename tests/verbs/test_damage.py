"""A file that is missing or damaged is a miss: its row goes, and it is prepared again.

The size is compared at every hit, the checksum at a handle's first meeting with a file. A row that
names no file of ours is never followed, whatever it names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.between import name_of, recorded
from support.making import claimed, failed, prepared
from support.paths import SPOILED, path_of, spoil
from support.tables import DEAD, change, files, row, rows
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import ArtifactId, ClaimLost, Registry, State, UnknownArtifact
from registry.effects import Checksum

NOW = timedelta(0)


# --- at a hit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("known", [True, False], ids=["known", "not met before"])
class TestASpoiledFile:
    """Both to a handle that has compared the checksum already, and to one that has not."""

    @pytest.fixture
    def path(
        self, registry: Registry, other: Registry, id: ArtifactId, known: bool, spoiled: Any
    ) -> Path:
        path = path_of(prepared(other, id))
        if known:
            assert registry.need(id) is not None
        spoiled(path)
        return path

    def test_is_a_miss_to_a_need(
        self, registry: Registry, id: ArtifactId, cache: Path, path: Path
    ) -> None:
        assert registry.need(id) is None
        assert rows(cache) == []
        assert path.is_dir() or not os.path.lexists(path)  # a folder is none of our making

    def test_is_prepared_again(
        self, registry: Registry, id: ArtifactId, cache: Path, path: Path
    ) -> None:
        artifact = registry.get_or_prepare(id, lambda: b"anew")
        assert path_of(artifact) != path
        assert path_of(artifact).read_bytes() == b"anew"
        assert artifact.num_failures == 0
        assert registry.check(checksums=True).ok

    def test_is_not_opened(
        self, registry: Registry, id: ArtifactId, cache: Path, path: Path
    ) -> None:
        with pytest.raises(UnknownArtifact):
            registry.open_file(id)
        assert rows(cache) == []

    def test_is_shown_by_get_which_looks_at_no_file(
        self, registry: Registry, id: ArtifactId, path: Path
    ) -> None:
        artifact = registry.get(id)
        assert artifact is not None
        assert artifact.path == path


def test_what_a_link_in_the_place_of_a_file_points_to_is_left_alone(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    path = path_of(prepared(registry, id))
    mine = tmp_path / "mine"
    mine.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(mine)
    assert registry.need(id) is None
    assert mine.exists()
    assert not os.path.lexists(path)


def test_one_bad_file_stops_nothing_else(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    good, bad = new_id(), new_id()
    prepared(registry, good)
    spoil(path_of(prepared(registry, bad)), b"?")
    assert registry.need(bad) is None
    assert registry.need(good) is not None


def test_the_checksum_is_compared_once_for_each_handle_and_file(
    registry: Registry, other: Registry, id: ArtifactId
) -> None:
    prepared(other, id)
    path = path_of(registry.get(id))
    with recorded(registry) as seen:
        for _ in range(3):
            assert registry.need(id) is not None
            registry.open_file(id).close()
            assert registry.get_or_prepare(id, lambda: b"never").size == 1024
    assert [e.name for e in seen if isinstance(e, Checksum)] == [path.name]

    os.utime(path)  # another mtime: it may have been written to
    with recorded(registry) as seen:
        assert registry.need(id) is not None
        assert registry.need(id) is not None
    assert [e.name for e in seen if isinstance(e, Checksum)] == [path.name]


def test_damage_that_keeps_size_and_mtime_is_seen_at_the_next_first_meeting(
    registry: Registry, other: Registry, id: ArtifactId
) -> None:
    path = path_of(prepared(registry, id))
    assert registry.need(id) is not None
    times = path.stat()
    SPOILED["a flipped bit"](path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert registry.need(id) is not None  # it was compared before: that is the bargain
    assert registry.check().ok
    assert [p.kind for p in registry.check(checksums=True).problems] == ["damaged_file"]
    assert other.need(id) is None


def test_an_open_file_survives_whatever_becomes_of_its_name(
    registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    with registry.open_file(id) as file:
        assert registry.prune(cache_limit=0, min_stale_time=NOW)
        assert file.read() == b"x" * 1024


# --- rows that name what is not ours ------------------------------------------------------------

HOSTILE = ["../victim.pvf", "victim.pvf", "", ".", "a\0b"]


@pytest.fixture(params=[*HOSTILE, "absolute"], ids=repr)
def hostile(request: pytest.FixtureRequest, cache: Path, victim: Path) -> str:
    """A path as no row of ours has it."""
    return str(victim) if request.param == "absolute" else request.param


@pytest.fixture
def victim(registry: Registry, cache: Path) -> Path:
    """A file that a hostile row may mean; there is one of that name in the folder as well."""
    (cache / "artifacts" / "victim.pvf").write_bytes(b"mine")
    victim = cache / "victim.pvf"
    victim.write_bytes(b"mine")
    return victim


def open_nothing(registry: Registry, id: ArtifactId) -> None:
    with pytest.raises(UnknownArtifact):
        registry.open_file(id)


def left_alone(cache: Path) -> bool:
    found = [path.read_bytes() for path in cache.rglob("victim.pvf")]
    return found == [b"mine", b"mine"]


@pytest.mark.parametrize(
    "act",
    [
        Registry.need,
        lambda registry, named: registry.get_or_prepare(named, lambda: b"anew"),
        open_nothing,
        Registry.remove,
        lambda registry, _: registry.prune(cache_limit=0, min_stale_time=NOW),
        lambda registry, _: registry.check(repair=True, checksums=True),
    ],
    ids=["need", "get_or_prepare", "open_file", "remove", "prune", "check"],
)
def test_a_hostile_path_is_never_followed(
    registry: Registry, id: ArtifactId, cache: Path, victim: Path, hostile: str, act: Any
) -> None:
    prepared(registry, id)
    change(cache, id, path=hostile, size=4)
    act(registry, id)
    assert left_alone(cache)
    assert hostile not in {r["path"] for r in rows(cache)}
    registry.check(repair=True)
    assert registry.check().ok


def test_a_hostile_path_is_not_shown_as_one(
    registry: Registry, id: ArtifactId, cache: Path, victim: Path, hostile: str
) -> None:
    prepared(registry, id)
    change(cache, id, path=hostile)
    assert [artifact.path for artifact in registry.artifacts()] == [None]
    assert [p.kind for p in registry.check().problems] == [
        "integrity",  # SQLite looks at the CHECKs too
        "hostile_file",
        "orphan_file",
    ]


@pytest.mark.parametrize("how", ["its host died", "its deadline passed"])
def test_a_hostile_path_of_an_abandoned_claim_is_never_followed(
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    cache: Path,
    victim: Path,
    hostile: str,
    how: str,
) -> None:
    claim = claimed(other, id)
    abandoned = {"host_id": DEAD} if how == "its host died" else {"deadline": 0}
    change(cache, id, path=hostile, **abandoned)
    assert registry.get_or_prepare(id, lambda: b"anew").state is State.PREPARED
    with pytest.raises(ClaimLost):
        claim.publish(b"late")
    assert left_alone(cache)


def test_a_failed_row_with_a_path_is_never_followed(
    registry: Registry, id: ArtifactId, cache: Path, victim: Path, hostile: str
) -> None:
    failed(registry, id)
    change(cache, id, path=hostile)
    assert registry.remove(id)
    assert left_alone(cache)


def test_a_need_of_a_hostile_row_asks_nothing_of_the_disk(
    registry: Registry, id: ArtifactId, cache: Path, victim: Path, hostile: str
) -> None:
    prepared(registry, id)
    change(cache, id, path=hostile)
    with recorded(registry) as seen:
        assert registry.need(id) is None
    assert [name_of(e) for e in seen if name_of(e) in {"Stat", "Checksum", "OpenFile"}] == []
    assert row(cache, id) is None
    assert len(files(cache)) == 2  # its own file, which is garbage now, and the victim
