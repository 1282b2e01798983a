"""The loop never waits for a disk: what touches files is done by threads of the handle's own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry import ArtifactId, AsyncRegistry, CleanupConfig, Registry

from .making import DATA, failed, held, prepare

# What Python tells its auditors of files and folders.
FILE_EVENTS = ("open", "sqlite3.connect", "shutil.", "os.")


class Auditor:
    """Hears who does what with files, while it listens: Python has no way to stop hearing."""

    def __init__(self) -> None:
        self.heard: list[tuple[threading.Thread, str, str]] = []
        self.listens = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.listens and event.startswith(FILE_EVENTS):
            self.heard.append((threading.current_thread(), event, str(args[0]) if args else ""))


@pytest.fixture(scope="module")
def ears() -> Auditor:
    return Auditor()


@pytest.fixture
def auditor(ears: Auditor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Auditor]:
    """Listen; to fsync as well, of which Python says nothing."""
    fsync = os.fsync

    def heard_fsync(fd: int) -> None:
        ears._hear("os.fsync", (os.readlink(f"/proc/self/fd/{fd}"),))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", heard_fsync)
    ears.heard.clear()
    ears.listens = True
    yield ears
    ears.listens = False


async def test_no_verb_touches_a_file_in_the_thread_of_the_loop(
    cache: Path, id: ArtifactId, rival: Registry, auditor: Auditor
) -> None:
    bad = ArtifactId.of(b"bad")
    failed(rival, bad)
    auditor.heard.clear()
    async with AsyncRegistry(cache, cleanup=CleanupConfig(0, timedelta(0))) as registry:
        claim = await held(registry, id)
        artifact = await claim.publish(DATA)
        assert await registry.need(id)
        assert await registry.need(id)
        (await registry.open_file(id)).close()
        await registry.get_or_prepare(id, prepare)
        await registry.wait(bad)
        await registry.remove(bad)
        assert artifact.path is not None
        os.unlink(artifact.path)
        auditor.heard = [each for each in auditor.heard if each[2] != str(artifact.path)]
        assert await registry.need(id) is None
        await registry.get_or_prepare(id, lambda: DATA)
        await registry.check(checksums=True, repair=True)
        await registry.prune()
        await registry.diagnose()
        assert [each async for each in registry.artifacts()] == []
    here = threading.current_thread()
    in_the_loop = {
        (event, os.path.basename(path)) for thread, event, path in auditor.heard if thread is here
    }
    elsewhere = {event for thread, event, path in auditor.heard if thread is not here}
    # Whether a host lives is asked in the loop: it takes microseconds, and no disk.
    locks = {("open", f"{host.id}.lock") for host in rival.hosts()}
    assert in_the_loop <= locks
    assert elsewhere >= {"open", "os.fsync", "os.rename", "os.remove", "sqlite3.connect"}


async def test_a_need_of_what_is_hot_does_not_even_turn_the_loop(
    cache: Path, id: ArtifactId
) -> None:
    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(id, prepare)
        hot = await registry.need(id)
        with pytest.raises(StopIteration) as answered:
            registry.need(id).send(None)
    assert answered.value.value is hot
