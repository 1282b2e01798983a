"""A full disk: publishing says so and gives its claim back; making room still works.

`DiskFull` is injected where the world would report it; once with a real SQLITE_FULL, and once with
the error that the kernel gives to fsync.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.between import Perform, between, name_of, recorded
from support.making import claimed, failed, prepared
from support.paths import path_of, spoil
from support.tables import files, row, rows, snapshot
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import ArtifactId, Claim, ClaimLost, DiskFull, Registry, State
from registry.effects import Effect

NOW = timedelta(0)
RESERVE_BYTES = 256 * 1024
STEPS = ["Write", "Sync", "Rename", "SyncFolder", "publish"]


@contextmanager
def full(registry: Registry, *steps: str, times: int = 1, after: bool = False) -> Iterator[None]:
    """Have no room for these effects, so many times each; `after`: although they were done."""
    left = dict.fromkeys(steps, times)

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        name = name_of(effect)
        if left.get(name, 0) == 0:
            return perform(effect)
        left[name] -= 1
        if after:
            perform(effect)
        raise DiskFull("no room left")

    with between(registry, act):
        yield
    assert not any(left.values()), "it was never asked for"


# --- publishing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done all the same"])
@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_publish_without_room_gives_the_claim_back(
    registry: Registry, id: ArtifactId, cache: Path, step: str, after: bool
) -> None:
    claim = claimed(registry, id)
    with full(registry, step, after=after), pytest.raises(DiskFull):
        claim.publish(b"artifact")
    assert (rows(cache), files(cache)) == ([], {})
    with pytest.raises(ClaimLost):
        claim.publish(b"artifact")
    assert registry.get_or_prepare(id, lambda: b"artifact", timeout=NOW).size == 8


def test_a_row_without_room_gives_the_claim_back(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    claim = claimed(registry, id)
    with full(registry, "publish"), pytest.raises(DiskFull):
        claim.publish(b"artifact")
    assert (rows(cache), files(cache)) == ([], {})


def test_a_row_that_was_written_all_the_same_keeps_its_file(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    """An error from a commit means "unknown": no file is unlinked because of it."""
    claim = claimed(registry, id)
    with full(registry, "publish", after=True), pytest.raises(DiskFull):
        claim.publish(b"artifact")
    assert registry.check(checksums=True).ok
    assert registry.get_or_prepare(id, lambda: b"never", timeout=NOW).size == 8


@pytest.mark.parametrize("step", STEPS)
def test_earlier_failures_are_remembered_when_there_is_no_room(
    registry: Registry, id: ArtifactId, cache: Path, step: str
) -> None:
    failed(registry, id)
    registry.retry(id)
    before = row(cache, id)
    with full(registry, step), pytest.raises(DiskFull):
        registry.get_or_prepare(id, lambda: b"artifact")
    assert row(cache, id) == before
    assert files(cache) == {}


def test_a_claim_without_room_leaves_nothing(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    for after in (False, True):
        with full(registry, "claim", after=after), pytest.raises(DiskFull):
            registry.claim(id)
        assert rows(cache) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_the_kernels_word_for_a_full_disk_is_ours(
    registry: Registry,
    id: ArtifactId,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    place: str,
) -> None:
    fsync = os.fsync

    def refuse(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir() == (place == "folder"):
            raise OSError(number, os.strerror(number))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFull):
        registry.get_or_prepare(id, lambda: b"artifact")
    assert (rows(cache), files(cache)) == ([], {})


def test_a_database_that_may_not_grow_says_so_and_serves_on(
    registry: Registry, new_id: Callable[[], ArtifactId], cache: Path
) -> None:
    """SQLite's own SQLITE_FULL, by a limit on its pages."""
    known = new_id()
    prepared(registry, known)
    registry._database._main.execute("PRAGMA max_page_count = 1", {})  # no more than now
    claims: list[Claim] = []

    def claim_without_end() -> None:
        while len(claims) < 10_000:
            claims.append(claimed(registry, new_id()))

    with pytest.raises(DiskFull):
        claim_without_end()
    assert len(rows(cache)) == len(claims) + 1
    assert registry.need(known) is not None
    for claim in claims:
        claim.release()
    assert [r["state"] for r in rows(cache)] == ["prepared"]
    assert registry.check(checksums=True).ok


# --- making room --------------------------------------------------------------------------------


def reserve_of(cache: Path) -> int:
    """How many bytes of the disk the reserve really takes."""
    reserve = cache / "reserve"
    return reserve.stat().st_blocks * 512 if reserve.exists() else 0


def test_a_cache_keeps_a_reserve_that_takes_its_room(registry: Registry, cache: Path) -> None:
    assert reserve_of(cache) >= RESERVE_BYTES
    (cache / "reserve").unlink()
    registry.check(repair=True)
    assert reserve_of(cache) >= RESERVE_BYTES


def discard(registry: Registry, id: ArtifactId) -> bool:
    spoil(path_of(registry.get(id)), b"?")
    return registry.need(id) is None


ENDS: dict[str, Callable[[Registry, ArtifactId], Any]] = {
    "remove": Registry.remove,
    "prune": lambda registry, _: registry.prune(cache_limit=0, min_stale_time=NOW),
    "discard": discard,
}


@pytest.mark.parametrize("statement", ENDS)
def test_the_reserve_is_given_up_to_make_room_and_rebuilt_after(
    registry: Registry, id: ArtifactId, cache: Path, statement: str
) -> None:
    prepared(registry, id)
    with recorded(registry) as seen, full(registry, statement):
        assert ENDS[statement](registry, id)
    assert (rows(cache), files(cache)) == ([], {})
    done = [name_of(effect) for effect in seen]
    given_up = done.index("GiveUpReserve")
    assert done[given_up + 1 : given_up + 4] == [statement, "Unlink", "RebuildReserve"]
    assert reserve_of(cache) >= RESERVE_BYTES


@pytest.mark.parametrize("statement", ENDS)
def test_where_even_the_reserve_is_not_room_enough_nothing_is_lost(
    registry: Registry, id: ArtifactId, cache: Path, statement: str
) -> None:
    prepared(registry, id)
    with full(registry, statement, times=2), pytest.raises(DiskFull):
        ENDS[statement](registry, id)
    assert [r["state"] for r in rows(cache)] == ["prepared"]
    assert len(files(cache)) == 1
    assert ENDS[statement](registry, id)
    assert reserve_of(cache) >= RESERVE_BYTES


@pytest.mark.parametrize("statement", ["release", "restore"])
def test_a_claim_is_given_back_on_a_full_disk_too(
    registry: Registry, id: ArtifactId, cache: Path, statement: str
) -> None:
    if statement == "restore":
        failed(registry, id)
        registry.retry(id)
    before = snapshot(cache)
    claim = claimed(registry, id)
    with full(registry, statement):
        claim.release()
    assert snapshot(cache) == before


@pytest.mark.parametrize(
    ("statement", "event", "is_left"),
    [("leave host", "closed_unwritten", True), ("usage", "keeping_failed", False)],
)
def test_what_closing_could_not_write_is_told(
    cache: Path, caplog: pytest.LogCaptureFixture, statement: str, event: str, is_left: bool
) -> None:
    registry = Registry(cache)
    with full(registry, statement):
        registry.close()
    assert [record.event for record in caplog.records] == [event]  # type: ignore[attr-defined]
    assert len(list((cache / "hosts").iterdir())) == is_left
    with Registry(cache) as later:
        assert len(later.hosts()) == 1
        assert later.check().ok


def test_a_reserve_that_cannot_be_rebuilt_now_is_no_error(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    prepared(registry, id)
    (cache / "reserve").unlink()
    (cache / "reserve").mkdir()
    assert registry.remove(id)
    assert registry.check(repair=True).ok


@pytest.mark.parametrize("known", [False, True], ids=["first met", "known"])
def test_what_is_prepared_is_answered_although_its_use_cannot_be_written(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    cache: Path,
    known: bool,
) -> None:
    artifact = prepared(registry, id)
    if known:
        other.need(id)
    clock.tick(timedelta(minutes=1))
    before = rows(cache)
    with recorded(other) as seen, full(other, "need", times=3):
        assert other.need(id) == artifact
        assert other.get_or_prepare(id, lambda: b"another") == artifact
        with other.open_file(id) as file:
            assert len(file.read()) == artifact.size
    assert [name_of(effect) for effect in seen].count("Checksum") == (0 if known else 1)
    assert rows(cache) == before
    needed = other.need(id)
    assert needed is not None
    assert needed.last_time_needed == artifact.last_time_needed + timedelta(minutes=1)


def test_a_full_disk_is_an_os_error_too(registry: Registry, id: ArtifactId) -> None:
    with full(registry, "Write"), pytest.raises(OSError):
        registry.get_or_prepare(id, lambda: b"artifact")
    assert registry.get(id) is None
    assert registry.get_or_prepare(id, lambda: b"artifact").state is State.PREPARED
