"""Pinned files and scratch folders: there while they are used, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from processes.crew import Crew, Line
from processes.traces import assert_clean, code_id
from registry import (
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    HandleClosed,
    HandleForked,
    InvalidData,
    Registry,
    UnknownArtifact,
)

ID = code_id("pinned")
NOW = timedelta(0)


@contextmanager
def nothing_left(cache: Path) -> Iterator[None]:
    yield
    assert [path for path in (cache / "workers").rglob("*") if path.is_file()] == []
    assert_clean(cache)


def prune_all(cache: Path) -> None:
    """Prune everything, as another process does."""
    line = [sys.executable, "-m", "registry", "prune", "--limit", "0", "--min-stale", "0"]
    subprocess.run([*line, "--cache", str(cache)], check=True, capture_output=True, timeout=60)


def read_elsewhere(path: Path) -> bytes:
    return subprocess.run(["cat", path], check=True, capture_output=True, timeout=60).stdout


def test_a_pinned_file_survives_what_other_processes_prune(cache: Path) -> None:
    with nothing_left(cache), Registry(cache) as registry:
        registry.get_or_prepare(ID, lambda: b"compiled")
        with registry.pinned(ID, name="kernel.so") as path, registry.pinned(ID) as again:
            prune_all(cache)
            assert registry.get(ID) is None
            assert path.name == "kernel.so"
            assert path != again
            for pinned in (path, again):
                assert pinned.read_bytes() == read_elsewhere(pinned) == b"compiled"
            registry.get_or_prepare(ID, lambda: b"compiled anew")
            assert path.read_bytes() == b"compiled"
        assert not path.parent.exists()
        with pytest.raises(UnknownArtifact), registry.pinned(code_id("unknown")):
            pass


def test_a_pin_of_a_loop_survives_as_well(cache: Path) -> None:
    async def story() -> None:
        async with AsyncRegistry(cache) as registry:
            await registry.get_or_prepare(ID, lambda: b"compiled")
            async with registry.pinned(ID, name="kernel.so") as path:
                await asyncio.to_thread(prune_all, cache)
                assert path.read_bytes() == b"compiled"
            assert not path.parent.exists()
            with pytest.raises(UnknownArtifact):
                async with registry.pinned(ID):
                    pass

    with nothing_left(cache):
        asyncio.run(story())


def pins_while_others_prune(line: Line, cache: Path, rounds: int) -> None:
    with Registry(cache) as registry:
        for number in range(rounds):
            one = code_id(number % 3)
            registry.get_or_prepare(one, lambda: b"compiled")
            try:
                with registry.pinned(one) as path:
                    assert path.read_bytes() == b"compiled"
                    assert path.read_bytes() == b"compiled"
            except UnknownArtifact:
                continue


def prunes(line: Line, cache: Path, rounds: int) -> None:
    with Registry(cache) as registry:
        for _ in range(rounds):
            registry.prune(cache_limit=0, min_stale_time=NOW)


def test_pins_and_pruning_go_on_beside_each_other(cache: Path, crew: Crew) -> None:
    with nothing_left(cache):
        workers = [crew.start(pins_while_others_prune, cache, 100) for _ in range(2)]
        workers.append(crew.start(prunes, cache, 200))
        assert [worker.join() for worker in workers] == [0, 0, 0]


def dies_with_a_pin(line: Line, cache: Path) -> None:
    registry = Registry(cache)
    registry.get_or_prepare(ID, lambda: b"compiled")
    with registry.pinned(ID) as path, registry.scratch_folder() as folder:
        (folder / "half").write_bytes(b"half of it")
        line.ask(str(path))


def test_what_a_killed_process_pinned_goes(cache: Path, crew: Crew) -> None:
    with nothing_left(cache), Registry(cache) as registry:
        process = crew.start(dies_with_a_pin, cache)
        path = Path(process.hear())
        assert path.read_bytes() == b"compiled"
        process.kill()
        registry.hosts()
        registry.check(repair=True)
        assert registry.need(ID) is not None
        assert not path.exists()


def leaves_its_parents_pin(registry: Registry) -> int:
    """Pin, fork, and leave the block in the child; answer the child's status to its parent."""
    with registry.pinned(ID) as path:
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            assert path.read_bytes() == b"compiled"
            return status
        with pytest.raises(HandleForked), registry.pinned(ID):
            pass
        with pytest.raises(HandleForked), registry.scratch_folder():
            pass
    os._exit(0)


def test_the_child_of_a_fork_unpins_nothing_of_its_parents(cache: Path) -> None:
    with nothing_left(cache), Registry(cache) as registry:
        registry.get_or_prepare(ID, lambda: b"compiled")
        assert leaves_its_parents_pin(registry) == 0


def test_a_pin_goes_with_its_handle(cache: Path) -> None:
    registry = Registry(cache)
    registry.get_or_prepare(ID, lambda: b"compiled")
    with nothing_left(cache), registry.pinned(ID) as path:
        registry.close()
        assert not path.exists()
    with pytest.raises(HandleClosed), registry.scratch_folder():
        pass


class Clumsy(Registry):
    """Removes its own folders just before it opens a file."""

    def open_file(self, id: ArtifactId) -> BinaryIO:
        for folder in (self.cache_dir / "workers").iterdir():
            shutil.rmtree(folder)
        return super().open_file(id)


class AsyncClumsy(AsyncRegistry):
    """The same in a loop."""

    async def open_file(self, id: ArtifactId) -> BinaryIO:
        for folder in (self.cache_dir / "workers").iterdir():
            shutil.rmtree(folder)
        return await super().open_file(id)


def test_a_pin_without_its_folder_is_refused_and_not_tried_for_ever(cache: Path) -> None:
    with Clumsy(cache) as registry:
        registry.put(ID, b"compiled")
        with pytest.raises(CacheDirectoryRefused, match="nothing can be made in"):
            registry.pinned(ID).__enter__()


async def _pin_clumsily(cache: Path) -> None:
    async with AsyncClumsy(cache) as registry:
        await registry.put(ID, b"compiled")
        with pytest.raises(CacheDirectoryRefused, match="nothing can be made in"):
            await registry.pinned(ID).__aenter__()


def test_a_pin_of_a_loop_without_its_folder_is_refused_as_well(cache: Path) -> None:
    asyncio.run(_pin_clumsily(cache))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0", "a" * 256, "\ud800"])
def test_a_pin_has_the_name_of_a_file(cache: Path, name: str) -> None:
    with Registry(cache) as registry:
        registry.get_or_prepare(ID, lambda: b"compiled")
        with pytest.raises(InvalidData, match="name"), registry.pinned(ID, name=name):
            pass


def test_what_is_built_in_a_scratch_folder_is_moved_in_without_a_copy(cache: Path) -> None:
    with nothing_left(cache), Registry(cache) as registry:
        with registry.scratch_folder() as folder:
            made = folder / "out.so"
            (folder / "beside").mkdir()

            def build() -> Path:
                subprocess.run(["sh", "-c", f"echo compiled > {made}; touch {folder}/beside/x"])
                return made

            artifact = registry.get_or_prepare(ID, build)
            assert not made.exists()
            assert artifact.path is not None
            assert artifact.path.stat().st_dev == folder.stat().st_dev
        assert not folder.exists()
        assert artifact.path.read_bytes() == b"compiled\n"


def test_decorated_functions_open_and_pin_their_files(cache: Path) -> None:
    calls: list[int] = []
    with nothing_left(cache), Registry(cache) as registry:

        @registry.artifact(version=1, name="build")
        def build(n: int) -> bytes:
            calls.append(n)
            return bytes(n)

        with build.open(3) as file, build.pinned(3) as path:
            prune_all(cache)
            assert file.read() == path.read_bytes() == bytes(3)
        assert calls == [3]
        with build.open(3) as file:
            assert file.read() == bytes(3)
        assert calls == [3, 3]
        assert (registry.counters.misses, registry.counters.hits) == (2, 2)


def test_decorated_coroutines_open_and_pin_their_files(cache: Path) -> None:
    async def story() -> None:
        async with AsyncRegistry(cache) as registry:

            @registry.artifact(version=1, name="build")
            async def build(n: int) -> bytes:
                return bytes(n)

            with await build.open(3) as file:
                async with build.pinned(3) as path:
                    await asyncio.to_thread(prune_all, cache)
                    assert file.read() == path.read_bytes() == bytes(3)

    with nothing_left(cache):
        asyncio.run(story())
