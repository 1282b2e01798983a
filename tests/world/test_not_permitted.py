"""A file or folder that the kernel lets nobody change, as `chattr +i` makes them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import NoReturn

import pytest
from support.disks import mounted

from registry import ArtifactId, CacheDirectoryRefused, Registry
from registry.world import files

FIRST, SECOND = ArtifactId.of(b"first"), ArtifactId.of(b"second")


def refuse(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def refuse_to_create(open_raw: Callable[..., FileIO]) -> Callable[..., FileIO]:
    def guarded(name: str, flags: int, dir_fd: int) -> FileIO:
        return open_raw(name, flags, dir_fd=dir_fd) if flags != -1 else refuse()

    return guarded


def test_an_immutable_artifact_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path / "cache") as registry:
        registry.get_or_prepare(FIRST, lambda: b"x")
        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", refuse)
            with pytest.raises(CacheDirectoryRefused, match="lsattr"):
                registry.prune(cache_limit=0, min_stale_time=timedelta(0))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk whose files can be made immutable, and are not any more when it goes."""
    with mounted(tmp_path, "ext4") as place:
        yield place
        subprocess.run(["chattr", "-R", "-ia", place], check=True)


def attribute(flag: str, path: Path | None) -> None:
    subprocess.run(["chattr", flag, str(path)], check=True)


@pytest.mark.parametrize("flag", ["i", "a"])
def test_pruning_goes_on_past_an_artifact_that_cannot_be_removed(
    disk: Path, caplog: pytest.LogCaptureFixture, flag: str
) -> None:
    with Registry(disk / "cache") as registry:
        ids = [ArtifactId.of(b"%d" % number) for number in range(5)]
        made = [registry.get_or_prepare(one, lambda: b"x") for one in ids]
        attribute(f"+{flag}", made[1].path)
        with pytest.raises(CacheDirectoryRefused, match=r"cannot be removed.*chattr -ia"):
            registry.prune(cache_limit=0, min_stale_time=timedelta(0))
        assert list(registry.artifacts()) == []
        assert [artifact.path for artifact in made if artifact.path.exists()] == [made[1].path]
        assert {event.event for one in ids for event in registry.history(one)} >= {"pruned"}
        assert "cannot be removed" in caplog.text
        report = registry.check(repair=True)
        assert [problem.kind for problem in report.problems] == ["orphan_file"]
        assert not report.repaired
        registry.prune(cache_limit=0, min_stale_time=timedelta(0))
        attribute(f"-{flag}", made[1].path)
        assert registry.check(repair=True).repaired
        assert registry.check(checksums=True).ok


def test_a_repair_goes_on_past_damaged_artifacts_that_cannot_be_removed(disk: Path) -> None:
    with Registry(disk / "cache") as registry:
        ids = [ArtifactId.of(b"%d" % number) for number in range(4)]
        made = [registry.get_or_prepare(one, lambda: b"x") for one in ids]
        for artifact in made[:3]:
            artifact.path.chmod(0o600)
            artifact.path.write_bytes(b"damaged")
        attribute("+i", made[0].path)
        attribute("+i", made[2].path)
        report = registry.check(repair=True)
        kinds = sorted(problem.kind for problem in report.problems)
        assert kinds == [*["damaged_file"] * 3, *["orphan_file"] * 2]
        assert not report.repaired
        assert [artifact.id for artifact in registry.artifacts()] == [ids[3]]
        assert registry.need(ids[0]) is None
        assert registry.get_or_prepare(ids[0], lambda: b"anew").size == 4


def test_removing_an_artifact_that_cannot_be_removed_is_told_once(disk: Path) -> None:
    with Registry(disk / "cache") as registry:
        made = registry.get_or_prepare(FIRST, lambda: b"x")
        attribute("+i", made.path)
        with pytest.raises(CacheDirectoryRefused, match="chattr -ia"):
            registry.remove(FIRST)
        assert not registry.remove(FIRST)
        assert registry.need(FIRST) is None


def test_an_immutable_folder_is_told_and_hits_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path / "cache") as registry:
        registry.get_or_prepare(FIRST, lambda: b"x")
        with monkeypatch.context() as patched:
            patched.setattr(files, "_CREATE", -1)
            patched.setattr(files, "open_raw", refuse_to_create(files.open_raw))
            with pytest.raises(CacheDirectoryRefused, match="chattr -ia"):
                registry.get_or_prepare(SECOND, lambda: b"y")
            assert registry.need(FIRST) is not None
        assert registry.get_or_prepare(SECOND, lambda: b"y").size == 1
