"""A file that cannot be read is as good as damaged, and stops nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from support.making import claimed, prepared
from support.tables import rows, snapshot

from registry import ArtifactId, CacheDirectoryRefused, InvalidData, Registry, State
from registry.world import files as world_files

ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")


class BadSector(FileIO):
    """A file that opens, but cannot be read."""

    def readinto(self, _buffer: object) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def fail_to_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Let the kernel refuse to open one file."""

    def arrange(path: Path, code: int) -> None:
        really_open = os.open

        def refusing(name: Any, *args: Any, **kwargs: Any) -> int:
            if name == path.name:
                raise OSError(code, os.strerror(code))
            return really_open(name, *args, **kwargs)

        monkeypatch.setattr(os, "open", refusing)

    return arrange


def two(registry: Registry, new_id: Callable[[], ArtifactId]) -> tuple[ArtifactId, Path]:
    """Two artifacts: the id of the good one, the file of the one to be spoilt."""
    bad, good = prepared(registry, new_id()), prepared(registry, new_id())
    assert bad.path is not None
    return good.id, bad.path


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_what_cannot_be_opened_is_found_and_mended(
    code: int,
    registry: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
    fail_to_open: Callable[[Path, int], None],
) -> None:
    good, path = two(registry, new_id)
    fail_to_open(path, code)
    report = registry.check(checksums=True)
    assert [problem.kind for problem in report.problems] == ["damaged_file"]
    registry.check(checksums=True, repair=True)
    assert registry.check(checksums=True).ok
    assert [ArtifactId(row["code_hash"], row["prep_hash"]) for row in rows(cache)] == [good]


def test_what_cannot_be_read_is_a_miss(
    registry: Registry, id: ArtifactId, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = prepared(registry, id).path
    assert path is not None
    opened = world_files.Files._opened

    def opening(self: world_files.Files, name: str) -> FileIO | None:
        return BadSector(os.devnull) if name == path.name else opened(self, name)

    monkeypatch.setattr(world_files.Files, "_opened", opening)
    assert registry.need(id) is None
    assert registry.get_or_prepare(id, lambda: b"compiled again").state is State.PREPARED


def test_for_want_of_descriptors_no_artifact_is_given_up(
    registry: Registry, cache: Path, id: ArtifactId, fail_to_open: Callable[[Path, int], None]
) -> None:
    path = prepared(registry, id).path
    assert path is not None
    before = snapshot(cache)
    fail_to_open(path, errno.EMFILE)
    with pytest.raises(CacheDirectoryRefused, match=r"Too many open files.*ulimit -n") as refused:
        registry.need(id)
    assert isinstance(refused.value.__cause__, OSError)
    assert rows(cache) == before[0]
    assert path.exists()


@ROOT
def test_a_mode_that_somebody_changed_is_a_miss(registry: Registry, id: ArtifactId) -> None:
    path = prepared(registry, id).path
    assert path is not None
    path.chmod(0)
    assert registry.need(id) is None


@ROOT
def test_a_file_that_cannot_be_read_is_not_taken_from_its_publisher(
    registry: Registry, cache: Path, id: ArtifactId, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"compiled")
    made.chmod(0o200)
    claim = claimed(registry, id)
    before = snapshot(cache)
    with pytest.raises(InvalidData, match="cannot be read"):
        claim.publish(made)
    assert made.exists()
    assert snapshot(cache) == before
