"""Files and rows: the row after the file when publishing, the file after the row when deleting."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.between import Perform, between, name_of, recorded
from support.making import claimed, prepared
from support.paths import path_of, spoil
from support.tables import files, rows, snapshot
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import ArtifactId, ClaimLost, InvalidData, Registry, State
from registry.effects import Effect, Rename, Run, Unlink, Write

NOW = timedelta(0)


def steps(seen: list[Effect[Any]]) -> list[str]:
    """What was done to files, and to the rows of artifacts, in their order."""
    return [
        name_of(effect)
        for effect in seen
        if (isinstance(effect, Run) and effect.statement.writes and name_of(effect) != "record")
        or name_of(effect) in {"Write", "TakeIn", "Sync", "Rename", "SyncFolder", "Unlink"}
    ]


# --- the order of things ------------------------------------------------------------------------


def test_a_row_is_published_only_after_its_file_is_durable(
    registry: Registry, id: ArtifactId
) -> None:
    with recorded(registry) as seen:
        artifact = claimed(registry, id).publish(b"artifact")
    assert steps(seen) == ["claim", "Write", "Sync", "Rename", "SyncFolder", "publish"]
    name = path_of(artifact).name
    assert [e.name for e in seen if isinstance(e, Write)] == [f"{name}.tmp"]
    assert [(e.name, e.to) for e in seen if isinstance(e, Rename)] == [(f"{name}.tmp", name)]
    assert [e.params["my_path"] for e in seen if name_of(e) == "claim"] == [name]  # type: ignore[attr-defined]


def test_a_path_is_published_in_the_same_order(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    source = tmp_path / "made"
    source.write_bytes(b"artifact")
    claim = claimed(registry, id)
    with recorded(registry) as seen:
        claim.publish(source)
    assert steps(seen) == ["TakeIn", "Sync", "Rename", "SyncFolder", "publish"]


def test_the_file_and_then_the_folder_are_really_synced(
    registry: Registry, id: ArtifactId, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed(registry, id)
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def seen_fsync(fd: int) -> None:
        calls.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{fd}')).relative_to(cache)}")
        fsync(fd)

    def seen_rename(old: str, new: str, **folders: int) -> None:
        calls.append(f"rename {old} {new}")
        rename(old, new, **folders)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "rename", seen_rename)
    name = path_of(claim.publish(b"artifact")).name
    assert calls == [f"fsync artifacts/{name}.tmp", f"rename {name}.tmp {name}", "fsync artifacts"]


def spoil_and_need(registry: Registry, id: ArtifactId) -> None:
    spoil(path_of(registry.get(id)), b"?")
    assert registry.need(id) is None


@pytest.mark.parametrize(
    ("end", "statement"),
    [
        (Registry.remove, "remove"),
        (lambda registry, _: registry.prune(cache_limit=0, min_stale_time=NOW), "prune"),
        (spoil_and_need, "discard"),
    ],
    ids=["remove", "prune", "a damaged file"],
)
def test_a_file_is_unlinked_only_after_the_end_of_its_row_is_durable(
    registry: Registry, id: ArtifactId, end: Callable[[Registry, ArtifactId], Any], statement: str
) -> None:
    name = path_of(prepared(registry, id)).name
    with recorded(registry) as seen:
        end(registry, id)
    assert steps(seen) == [statement, "Unlink"]
    assert [e.statement.durable for e in seen if name_of(e) == statement] == [True]  # type: ignore[attr-defined]
    assert [e.name for e in seen if isinstance(e, Unlink)] == [name]


def test_a_claim_that_fails_leaves_no_file(registry: Registry, id: ArtifactId, cache: Path) -> None:
    claim = claimed(registry, id)
    (name,) = (r["path"] for r in rows(cache))
    for left in (name, f"{name}.tmp"):
        (cache / "artifacts" / left).write_bytes(b"half an artifact")
    with recorded(registry) as seen:
        claim.fail("it went wrong")
    assert steps(seen) == ["fail", "Unlink", "Unlink"]
    assert files(cache) == {}


# --- what is published --------------------------------------------------------------------------


def test_bytes_of_any_kind_are_published(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    for data in (b"artifact", bytearray(b"artifact"), memoryview(b"-artifact")[1:]):
        artifact = claimed(registry, new_id()).publish(data)
        assert path_of(artifact).read_bytes() == b"artifact"
        assert stat.S_IMODE(path_of(artifact).stat().st_mode) == 0o400


def test_a_file_is_moved_in(registry: Registry, id: ArtifactId, tmp_path: Path) -> None:
    source = tmp_path / "made"
    source.write_bytes(b"artifact")
    source.chmod(0o755)
    inode = source.stat().st_ino
    artifact = claimed(registry, id).publish(source)
    assert not source.exists()
    assert path_of(artifact).stat().st_ino == inode
    assert stat.S_IMODE(path_of(artifact).stat().st_mode) == 0o400
    assert path_of(artifact).read_bytes() == b"artifact"
    assert artifact.size == 8


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to be found")
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_a_file_on_another_file_system_is_copied(
    registry: Registry, id: ArtifactId, elsewhere: Path
) -> None:
    source = elsewhere / "made"
    source.write_bytes(b"artifact" * 300_000)
    artifact = claimed(registry, id).publish(source)
    assert source.read_bytes() == path_of(artifact).read_bytes()
    assert stat.S_IMODE(path_of(artifact).stat().st_mode) == 0o400
    assert registry.check(checksums=True).ok


def test_a_file_that_has_another_name_is_copied(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    """Else whoever writes to the other name would write to the artifact."""
    source = tmp_path / "made"
    source.write_bytes(b"artifact")
    os.link(source, tmp_path / "another name")
    artifact = claimed(registry, id).publish(source)
    (tmp_path / "another name").write_bytes(b"ARTIFACT")
    assert path_of(artifact).read_bytes() == b"artifact"
    assert registry.check(checksums=True).ok


def test_the_file_of_another_artifact_is_copied(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    one = prepared(registry, new_id())
    another = claimed(registry, new_id()).publish(path_of(one))
    assert registry.need(one.id) is not None
    assert path_of(one).read_bytes() == path_of(another).read_bytes()
    assert registry.check(checksums=True).ok


@pytest.mark.parametrize(
    "name",
    ["registry.db", "registry.db-wal", "registry.db-shm", "cache.id", "open.lock", "reserve"],
)
def test_a_file_of_the_cache_itself_is_refused(
    name: str, registry: Registry, id: ArtifactId, cache: Path
) -> None:
    """The database must not even be read: closing it drops SQLite's locks."""
    with claimed(registry, id) as claim, pytest.raises(InvalidData, match="the cache itself"):
        claim.publish(cache / name)
    assert (cache / name).exists()
    assert registry.check().ok


def test_a_file_of_the_users_beside_the_database_is_moved_in(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    made = cache / "made"
    made.write_bytes(b"artifact")
    assert path_of(claimed(registry, id).publish(made)).read_bytes() == b"artifact"
    assert not made.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_copied(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    """Else its owner could still write to the artifact."""
    source = tmp_path / "made"
    source.write_bytes(b"artifact")
    os.chown(source, 12345, 12345)
    artifact = claimed(registry, id).publish(source)
    assert path_of(artifact).stat().st_uid == os.geteuid()


def no_file(place: Path) -> None:
    place.unlink(missing_ok=True)


def a_link(place: Path) -> None:
    place.with_name("target").write_bytes(b"artifact")
    place.symlink_to("target")


UNFIT: dict[str, Callable[[Path], object]] = {
    "nothing there": no_file,
    "a link": a_link,
    "a dangling link": lambda place: place.symlink_to("nowhere"),
    "a folder": Path.mkdir,
    "a fifo": os.mkfifo,
    "an empty file": Path.touch,
}


@pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT)
def test_what_is_no_file_is_refused_and_the_claim_is_still_ours(
    registry: Registry, id: ArtifactId, cache: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    place = tmp_path / "made"
    make(place)
    before = os.lstat(place) if os.path.lexists(place) else None
    claim = claimed(registry, id)
    seen = snapshot(cache)
    with pytest.raises(InvalidData, match="made"):
        claim.publish(place)
    assert snapshot(cache) == seen
    assert (os.lstat(place) if os.path.lexists(place) else None) == before
    assert claim.publish(b"artifact").state is State.PREPARED


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", InvalidData),
        (bytearray(), InvalidData),
        (Path("nul\0"), InvalidData),
        ("made", TypeError),
        (None, TypeError),
        (7, TypeError),
        ([b"artifact"], TypeError),
    ],
    ids=repr,
)
def test_what_is_no_artifact_is_refused_and_the_claim_is_still_ours(
    registry: Registry, id: ArtifactId, cache: Path, data: Any, error: type[Exception]
) -> None:
    claim = claimed(registry, id)
    seen = snapshot(cache)
    with pytest.raises(error):
        claim.publish(data)
    assert snapshot(cache) == seen
    assert claim.publish(b"artifact").state is State.PREPARED


def test_a_temporary_file_that_vanished_loses_the_claim_for_good(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    """Nobody waits for the deadline of a claim that its own host has given up."""

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        if name_of(effect) == "Sync":
            os.unlink(cache / "artifacts" / effect.name)  # type: ignore[attr-defined]
        return perform(effect)

    claim = claimed(registry, id)
    with between(registry, act), pytest.raises(ClaimLost, match="vanished"):
        claim.publish(b"artifact")
    assert snapshot(cache)[0] == []
    assert registry.get_or_prepare(id, lambda: b"artifact", timeout=NOW).size == 8
