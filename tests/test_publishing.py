"""Ending a claim with a file."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xxhash
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed
from support.tables import files, row, snapshot, usage

from registry import ArtifactId, Claim, InvalidData, Registry, State


@pytest.fixture
def claim(registry: Registry, id: ArtifactId) -> Claim:
    return claimed(registry, id)


@pytest.fixture
def elsewhere(cache: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == cache.stat().st_dev:
        pytest.skip("there is no other file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_bytes_become_a_read_only_file_under_the_reserved_name(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    reserved = row(cache, id)
    assert reserved is not None
    clock.tick(timedelta(seconds=3))
    artifact = claim.publish(b"compiled")
    assert artifact == registry.get(id)
    assert artifact.state is State.PREPARED
    assert artifact.path == cache / "artifacts" / reserved["path"]
    assert artifact.path.is_absolute()
    assert files(cache) == {reserved["path"]: b"compiled"}
    assert stat.S_IMODE(artifact.path.stat().st_mode) == 0o400
    assert artifact.size == 8
    assert artifact.checksum == xxhash.xxh3_128_hexdigest(b"compiled")
    assert artifact.last_time_needed == datetime(2026, 1, 1, 12, 0, 3, tzinfo=UTC)
    assert artifact.holder is None
    assert artifact.prepare_seconds is not None
    assert artifact.prepare_seconds >= 0
    assert usage(cache) == ((1, 8), (1, 8))


def test_the_row_of_a_publisher_holds_no_claim_any_more(
    claim: Claim, cache: Path, id: ArtifactId
) -> None:
    claim.publish(b"compiled")
    stored = row(cache, id)
    assert stored is not None
    names = ("token", "host_id", "claimed_at", "deadline")
    assert [stored[name] for name in names] == [None] * 4


def test_publishing_forgets_all_failures(registry: Registry, id: ArtifactId) -> None:
    failed(registry, id)
    registry.retry(id)
    artifact = claimed(registry, id).publish(b"compiled")
    assert artifact.num_failures == 0
    assert artifact.error is artifact.error_kind is artifact.retry_at is None
    assert artifact.last_time_failed is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_whatever_holds_bytes_can_be_published(
    kind: Callable[[bytes], bytes], claim: Claim, cache: Path
) -> None:
    claim.publish(kind(b"compiled"))
    assert list(files(cache).values()) == [b"compiled"]


def test_a_file_is_moved_in(claim: Claim, cache: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"compiled")
    inode = made.stat().st_ino
    artifact = claim.publish(made)
    assert artifact.path is not None
    assert artifact.path.stat().st_ino == inode
    assert stat.S_IMODE(artifact.path.stat().st_mode) == 0o400
    assert not made.exists()
    assert artifact.checksum == xxhash.xxh3_128_hexdigest(b"compiled")
    assert list(files(cache).values()) == [b"compiled"]


def test_a_file_of_another_file_system_is_copied(
    claim: Claim, cache: Path, elsewhere: Path
) -> None:
    made = elsewhere / "made"
    made.write_bytes(b"compiled" * 300_000)
    artifact = claim.publish(made)
    assert artifact.size == 8 * 300_000
    assert artifact.checksum == xxhash.xxh3_128_hexdigest(b"compiled" * 300_000)
    assert list(files(cache).values()) == [b"compiled" * 300_000]


def test_a_file_that_has_another_name_keeps_that_one_writable(
    claim: Claim, cache: Path, tmp_path: Path
) -> None:
    """Whoever holds the other name could change the artifact under us."""
    made, kept = tmp_path / "made", tmp_path / "kept"
    made.write_bytes(b"compiled")
    os.link(made, kept)
    artifact = claim.publish(made)
    kept.write_bytes(b"changed!")
    assert artifact.path is not None
    assert artifact.path.read_bytes() == b"compiled"


def nothing(folder: Path) -> Path:
    return folder / "nothing"


def link(folder: Path) -> Path:
    (folder / "target").write_bytes(b"compiled")
    (folder / "link").symlink_to(folder / "target")
    return folder / "link"


def empty(folder: Path) -> Path:
    (folder / "empty").touch()
    return folder / "empty"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (nothing, InvalidData),
        (link, InvalidData),
        (lambda folder: folder, InvalidData),
        (empty, InvalidData),
        (pipe, InvalidData),
        (lambda folder: b"", InvalidData),
        (lambda folder: bytearray(), InvalidData),
        (lambda folder: "compiled", TypeError),
        (lambda folder: str(link(folder)), TypeError),
        (lambda folder: None, TypeError),
        (lambda folder: 5, TypeError),
    ],
    ids=[
        *("missing", "symlink", "folder", "empty file", "pipe", "no bytes", "empty bytearray"),
        *("text", "path as text", "None", "int"),
    ],
)
def test_what_is_no_artifact_is_refused_and_the_claim_is_still_yours(
    make: Callable[[Path], object],
    refusal: type[Exception],
    claim: Claim,
    cache: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    data = make(folder)
    before, outside = snapshot(cache), sorted(folder.iterdir())
    with pytest.raises(refusal):
        claim.publish(data)  # type: ignore[arg-type]
    assert snapshot(cache) == before
    assert sorted(folder.iterdir()) == outside
    assert claim.publish(b"compiled").state is State.PREPARED


def test_a_lost_claim_does_not_take_the_file_of_its_publisher(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    tmp_path: Path,
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"compiled")
    late = claimed(registry, id)
    clock.tick(timedelta(hours=1))
    claimed(other, id).publish(b"compiled by another")
    with pytest.raises(Exception, match="lost"):
        late.publish(made)
    assert made.read_bytes() == b"compiled"
