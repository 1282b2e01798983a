"""What jobs leave behind in their worker's folder harms nobody who comes after them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from host.hosting import hosting, id_of, process
from host.stories import AMPLE, story, wish
from support.tables import row

from registry import (
    ArtifactId,
    InternalError,
    PreparationFailed,
    Registry,
    State,
)

FINE = wish("answer")
READ = {"do": "read"}
DEEP = 1500  # deeper than Python recurses


@pytest.mark.parametrize("verb", ["prepare", "execute"])
@story
async def test_nested_folders_are_cleared_away(hosted, verb):
    async with hosting(hosted, execute_workers=1) as host:
        code = wish("nest", deep=DEEP) if verb == "prepare" else FINE
        request = READ if verb == "prepare" else {"do": "nest", "deep": DEEP}
        answer = await host.execute(code, {}, request, timeout=AMPLE)
        assert answer == (b"prepared" if verb == "prepare" else b"nested")
        for n in range(3):
            assert await host.execute(wish("answer", n=n), {}, READ) == b"prepared"


PLANTS = ["folder", "link", "dangling link", "fifo"]


@pytest.mark.parametrize("lying", [False, True], ids=["failing", "claiming success"])
@pytest.mark.parametrize("what", PLANTS)
@story
async def test_what_is_planted_in_place_of_an_artifact_fails_its_own_code_only(hosted, what, lying):
    evil = wish("plant", what=what, **({"claiming success": True} if lying else {}))
    async with hosting(hosted) as host:
        with pytest.raises(PreparationFailed):
            await host.precheck(evil)
        for n in range(3):
            assert (await host.precheck(wish("answer", n=n))).state is State.PREPARED


@pytest.mark.parametrize("at", ["prepared", "artifact.new", "scratch2"])
@pytest.mark.parametrize("what", PLANTS)
@story
async def test_what_an_execution_plants_is_gone_before_the_next_job(hosted, what, at):
    async with hosting(hosted, execute_workers=1) as host:
        await host.execute(FINE, {}, READ)
        with pytest.raises(Exception, match="innocent looking"):
            await host.execute(FINE, {}, {"do": "plant", "what": what, "at": at})
        for _ in range(2):
            assert await host.execute(FINE, {}, READ) == b"prepared"
        found = await host.execute(FINE, {}, {"do": "list folder", "path": ".."})
        assert sorted(found) == ["artifact", "scratch"]


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("chattr") is None, reason="needs root and chattr"
)
@story
async def test_what_cannot_be_removed_retires_the_worker_and_is_no_failure_of_the_code(tmp_path):
    cache = tmp_path / "cache"
    code = wish("make immutable")
    if await chattr("+i", tmp_path):
        pytest.skip("this file system knows no immutable files")
    await chattr("-i", tmp_path)
    try:
        async with hosting(cache) as host:
            with pytest.raises(InternalError, match="would not empty"):
                await host.execute(code, {}, READ)
            assert row(cache, id_of(code)) is None, "the code did nothing wrong"
            assert await host.execute(FINE, {}, READ) == b"prepared"
        with Registry(cache) as registry:
            assert registry.check().ok
    finally:
        await chattr("-R", "-i", cache)


async def chattr(*words: object) -> int:
    done = await asyncio.create_subprocess_exec("chattr", *map(str, words), stderr=-3)
    return await done.wait()


KILLED = """
import asyncio, sys
from host.hosting import hosting
from host.stories import wish

async def main():
    async with hosting(sys.argv[1]) as host:
        await host.execute(wish("answer"), {}, {"do": "read"})
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@story
async def test_a_dead_hosts_nested_folders_stop_no_other_process(cache: Path):
    async with process(KILLED, cache) as started:
        await started.stdout.readline()
        (workers,) = (cache / "workers").iterdir()
        started.send_signal(signal.SIGKILL)
        await started.wait()
    parent = os.open(workers, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("y", dir_fd=parent)
        child = os.open("y", os.O_RDONLY, dir_fd=parent)
        os.close(parent)
        parent = child
    os.close(parent)
    with Registry(cache) as registry:
        assert registry.get_or_prepare(ArtifactId.of(b"x"), lambda: b"y").state is State.PREPARED
        assert not workers.exists()
        assert registry.check().ok
    assert sys.getrecursionlimit() < DEEP
