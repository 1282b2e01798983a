"""A file or folder that the kernel lets nobody change, as `chattr +i` makes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import NoReturn

import pytest

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
