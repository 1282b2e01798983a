"""Needing an artifact: its last use, its file, and the hot path that looks at no row."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import files, row, rows

from registry import Artifact, ArtifactId, CleanupConfig, Registry, State, UnknownArtifact
from registry.artifact import needed_at
from registry.verbs import need

MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


def last_use(cache: Path, id: ArtifactId) -> int:
    stored = row(cache, id)
    assert stored is not None
    needed: int = stored["last_time_needed"]
    return needed


def overwrite(path: Path | None, data: bytes) -> None:
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(data)


def flip_a_bit(path: Path | None, *, keep_time: bool = False) -> None:
    """Damage a file without changing its size."""
    assert path is not None
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(data)
    times = (found.st_atime_ns, found.st_mtime_ns + (0 if keep_time else 1_000_000_000))
    os.utime(path, ns=times)


# --- the last use -------------------------------------------------------------------------------


def test_a_need_answers_the_prepared_artifact_with_its_last_use(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    clock.tick(5 * SECOND)
    needed = registry.need(id)
    assert needed == registry.get(id)
    assert needed is not None
    assert needed.state is State.PREPARED


@pytest.mark.parametrize("stale", [2 * SECOND, timedelta(hours=24), timedelta(days=7)])
def test_the_last_use_is_written_once_a_second_at_most(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    cache: Path,
    id: ArtifactId,
    stale: timedelta,
) -> None:
    registry.configure(min_stale_time=stale)
    prepared(registry, id)
    registry.need(id)
    start = last_use(cache, id)
    for _ in range(9):
        clock.tick(SECOND / 10)
        registry.need(id)
        assert last_use(cache, id) == start
    clock.tick(SECOND / 10 + MILLISECOND)
    registry.need(id)
    assert last_use(cache, id) == start + 1_001_000


def test_a_stale_time_that_another_changed_is_obeyed_within_a_second(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.need(id)
    start = last_use(cache, id)
    other.configure(min_stale_time=timedelta(0))
    clock.tick(SECOND)
    registry.need(id)
    assert last_use(cache, id) == start + 1_000_000


def test_the_last_use_is_written_twice_within_the_stale_time(
    clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId
) -> None:
    own = CleanupConfig(min_stale_time=200 * MILLISECOND)
    with Registry(cache, cleanup=own) as registry:
        prepared(registry, id)
        registry.need(id)
        start = last_use(cache, id)
        clock.tick(99 * MILLISECOND)
        registry.need(id)
        assert last_use(cache, id) == start
        clock.tick(2 * MILLISECOND)
        registry.need(id)
        assert last_use(cache, id) == start + 101_000


@pytest.mark.parametrize("where", ["stored", "own"])
def test_without_a_stale_time_each_need_is_written(
    where: str, clock: FrozenDateTimeFactory, cache: Path, id: ArtifactId
) -> None:
    own = CleanupConfig(min_stale_time=timedelta(0)) if where == "own" else None
    with Registry(cache, cleanup=own) as registry:
        if where == "stored":
            registry.configure(min_stale_time=timedelta(0))
        prepared(registry, id)
        start = last_use(cache, id)
        for microseconds in range(1, 6):
            clock.tick(timedelta(microseconds=1))
            registry.need(id)
            assert last_use(cache, id) == start + microseconds


def test_a_changed_stale_time_is_obeyed_by_the_next_need(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.need(id)
    start = last_use(cache, id)
    registry.configure(min_stale_time=timedelta(0))
    clock.tick(10 * MILLISECOND)
    registry.need(id)
    assert last_use(cache, id) == start + 10_000


def test_a_clock_that_was_set_back_does_not_stop_the_writing(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id)
    registry.need(id)
    start = last_use(cache, id)
    clock.tick(-timedelta(days=1))
    registry.need(id)
    assert last_use(cache, id) == start - 24 * 3600 * 1_000_000


def test_a_need_is_seen_by_every_host(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    prepared(registry, id)
    clock.tick(5 * SECOND)
    assert registry.need(id) == other.get(id)


def test_a_handle_with_very_many_hot_artifacts_writes_so_many_a_second(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(need, "MICROS_EACH", 500_000)
    ids = [new_id() for _ in range(6)]
    for each in ids:
        prepared(registry, each)
        registry.need(each)
    start = last_use(cache, ids[0])
    for tick in (2.9, 0.05):
        clock.tick(tick * SECOND)
        registry.need(ids[0])
        assert last_use(cache, ids[0]) == start
    clock.tick(SECOND / 10)
    registry.need(ids[0])
    assert last_use(cache, ids[0]) == start + 3_050_000


def test_a_last_use_that_another_host_wrote_is_not_written_again(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    """Many hosts that need the same artifacts write each last use once, not once each."""
    prepared(registry, id)
    registry.need(id)
    other.need(id)
    clock.tick(5 * SECOND)
    written = registry.need(id)
    assert written is not None
    start = last_use(cache, id)
    for _ in range(2):
        clock.tick(SECOND / 2 - MILLISECOND)
        assert other.need(id) == written
        assert last_use(cache, id) == start
    clock.tick(3 * MILLISECOND)
    other.need(id)
    assert last_use(cache, id) == start + 1_001_000


@pytest.mark.parametrize("why", ["somebody read the file", "a time to come", "no stale time"])
def test_a_mark_on_a_file_is_believed_only_if_a_host_left_it_just_now(
    why: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    path = prepared(registry, id).path
    assert path is not None
    other.need(id)
    if why == "no stale time":
        other.configure(min_stale_time=timedelta(0))
    clock.tick(5 * SECOND)
    registry.need(id)
    start = last_use(cache, id)
    found = path.stat()
    if why == "somebody read the file":
        os.utime(path, ns=(found.st_atime_ns // 1000 * 1000, found.st_mtime_ns))
    if why == "a time to come":
        os.utime(path, ns=(found.st_atime_ns + 10**9, found.st_mtime_ns))
    clock.tick(MILLISECOND)
    other.need(id)
    assert last_use(cache, id) == start + 1_000


@pytest.mark.parametrize("state", ["unknown", "preparing", "failed"])
def test_what_is_not_prepared_is_a_miss(state: str, registry: Registry, id: ArtifactId) -> None:
    claim = claimed(registry, id) if state == "preparing" else None
    if state == "failed":
        failed(registry, id)
    assert registry.need(id) is None
    assert claim is None or claim.publish(b"compiled").state is State.PREPARED


# --- other hosts' doings show at once -----------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "pruned", "replaced"])
def test_what_another_host_did_shows_at_the_next_need(
    how: str, clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    first = prepared(registry, id)
    registry.need(id)
    if how == "pruned":
        other.prune(cache_limit=0, min_stale_time=timedelta(0))
    else:
        other.remove(id)
    second = prepared(other, id) if how == "replaced" else None
    needed = registry.need(id)
    assert needed == second
    assert needed is None or needed.path != first.path


# --- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "cold"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: overwrite(path, b"short"),
        lambda path: overwrite(path, b"x" * 5000),
        flip_a_bit,
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["missing", "truncated", "grown", "flipped", "symlink", "folder"],
)
def test_a_file_that_is_not_what_was_published_is_a_miss_and_is_prepared_again(
    spoil: Callable[[Path], object],
    hot: bool,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    path = prepared(registry, id).path
    assert path is not None
    if hot:
        registry.need(id)
    spoil(path)
    assert registry.need(id) is None
    assert rows(cache) == []
    assert not path.is_file()
    again = registry.get_or_prepare(id, lambda: b"compiled again")
    assert again.num_failures == 0
    assert again.path is not None
    assert again.path.read_bytes() == b"compiled again"


def test_a_file_of_another_size_is_found_without_reading_it(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
) -> None:
    overwrite(prepared(registry, new_id()).path, b"short")
    assert [problem.kind for problem in registry.check().problems] == ["damaged_file"]
    clock.tick(timedelta(hours=1))
    assert registry.maintain()
    assert rows(cache) == []
    assert files(cache) == {}


# --- open_file ----------------------------------------------------------------------------------


def test_an_open_file_survives_pruning(registry: Registry, cache: Path, id: ArtifactId) -> None:
    claimed(registry, id).publish(b"compiled")
    with registry.open_file(id) as file:
        registry.prune(cache_limit=0, min_stale_time=timedelta(0))
        assert files(cache) == {}
        assert file.read() == b"compiled"


def test_opening_a_file_counts_as_a_need(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id)
    start = last_use(cache, id)
    clock.tick(5 * SECOND)
    registry.open_file(id).close()
    assert last_use(cache, id) == start + 5_000_000


def test_an_open_file_cannot_be_written(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    with registry.open_file(id) as file:
        assert not file.writable()


@pytest.mark.parametrize("state", ["unknown", "preparing", "failed", "missing", "damaged"])
def test_what_is_not_there_cannot_be_opened(state: str, registry: Registry, id: ArtifactId) -> None:
    claim = claimed(registry, id) if state == "preparing" else None
    if state == "failed":
        failed(registry, id)
    if state in ("missing", "damaged"):
        path = prepared(registry, id).path
        assert path is not None
        if state == "missing":
            path.unlink()
        else:
            flip_a_bit(path)
    with pytest.raises(UnknownArtifact, match=id.short):
        registry.open_file(id)
    assert claim is None or claim.publish(b"compiled").state is State.PREPARED


def test_what_is_needed_again_is_the_same_but_for_its_last_use() -> None:
    other = {field.name: object() for field in fields(Artifact)}
    found, now = Artifact(**other), datetime(2026, 1, 1, tzinfo=UTC)  # type: ignore[arg-type]
    assert needed_at(found, now) == replace(found, last_time_needed=now)
