"""How a process may end, or fork, with a handle open: no hang, no claim left, nobody harmed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from registry import ArtifactId, Registry, State

from .making import PATIENCE

PRELUDE = """
import asyncio, os, shutil, sys, warnings
from registry import *

# Python 3.12 and later warn of any fork beside other threads, which is what is tried here.
warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)

cache = sys.argv[1]
id = ArtifactId.of(b"code")

async def hang():
    print("begun", flush=True)
    await asyncio.Event().wait()
"""


def run(script: str, cache: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + dedent(script), str(cache)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(name="id")
def the_id_of_the_scripts() -> ArtifactId:
    return ArtifactId.of(b"code")


ENDS = {
    "the loop ends": """
        async def main():
            global registry, claim
            registry = await AsyncRegistry(cache).open()
            claim = await registry.claim(id)
        asyncio.run(main())
    """,
    "the loop ends, and nobody knows the handle": """
        async def main():
            registry = await AsyncRegistry(cache).open()
            claim = await registry.claim(id)
        asyncio.run(main())
    """,
    "the loop ends while a task prepares": """
        async def main():
            global registry, task
            registry = await AsyncRegistry(cache).open()
            task = asyncio.create_task(registry.get_or_prepare(id, hang))
            while await registry.get(id) is None: pass
        asyncio.run(main())
    """,
    "sys.exit in a task": """
        async def main():
            global registry, claim
            registry = await AsyncRegistry(cache).open()
            claim = await registry.claim(id)
            sys.exit()
        asyncio.run(main())
    """,
    "a loop that is never closed": """
        async def main():
            global registry, task
            registry = await AsyncRegistry(cache).open()
            task = asyncio.create_task(registry.get_or_prepare(id, hang))
            while await registry.get(id) is None: pass
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        loop.run_until_complete(main())
    """,
    "a loop in a daemon thread": """
        import threading
        begun = threading.Event()
        async def main():
            global registry, claim
            registry = await AsyncRegistry(cache).open()
            claim = await registry.claim(id)
            begun.set()
            await asyncio.Event().wait()
        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        begun.wait()
    """,
    "many handles": """
        async def main():
            global handles, claims
            handles = [await AsyncRegistry(cache).open() for _ in range(20)]
            claims = [await handles[0].claim(id)]
            claims += [await r.claim(ArtifactId.of(b"%d" % n)) for n, r in enumerate(handles)]
            await asyncio.gather(*(r.stats() for r in handles))
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("script", ENDS.values(), ids=ENDS)
def test_a_process_that_closes_nothing_ends_and_leaves_nothing(
    script: str, cache: Path, rival: Registry
) -> None:
    ended = run(script, cache)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(rival.artifacts()) == [], "claims are given back, not failed"
    assert len(rival.hosts()) == 1, "and the handle has left"
    assert len(os.listdir(cache / "hosts")) == 1


def test_a_process_that_warns_of_nothing_ends_so_with_warnings_as_errors(
    cache: Path, rival: Registry
) -> None:
    ended = run(ENDS["the loop ends"], cache, "-X", "dev", "-W", "error")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert list(rival.artifacts()) == []


def test_a_handle_that_cannot_leave_does_not_keep_the_others_from_it(
    cache: Path, tmp_path: Path, rival: Registry
) -> None:
    script = """
        async def main():
            global handles, claims
            handles = [await AsyncRegistry(cache).open()]
            handles += [await AsyncRegistry(f"{cache}/../gone{n}").open() for n in range(8)]
            claims = [await r.claim(id) for r in handles]
        asyncio.run(main())
        for n in range(8):
            shutil.rmtree(f"{cache}/../gone{n}")
    """
    ended = run(script, cache)
    assert ended.returncode == 0
    assert list(rival.artifacts()) == []
    assert len(rival.hosts()) == 1


def test_a_process_that_is_killed_gives_way_to_the_next(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    script = """
        async def main():
            async with AsyncRegistry(cache) as registry:
                claim = await registry.claim(id)
                os.kill(os.getpid(), 9)
        asyncio.run(main())
    """
    assert run(script, cache).returncode == -9
    artifact = rival.get_or_prepare(id, lambda: b"compiled")
    assert artifact.state is State.PREPARED


def test_a_child_may_not_use_its_parent_s_handle_nor_harm_it(cache: Path, rival: Registry) -> None:
    script = """
        async def refused(verb):
            try:
                await verb()
            except HandleForked as error:
                return "open a new one" in str(error)

        async def child(registry, claim):
            assert await refused(lambda: registry.get(id))
            assert await refused(lambda: registry.need(known))
            assert await refused(lambda: claim.publish(b"the child's"))
            assert await refused(lambda: claim.release())
            assert claim.id == id and claim.artifact.state is State.PREPARING
            await registry.close()
            async with registry as own:  # which is to open a new one
                assert (await own.get(id)).state is State.PREPARING
                assert (await own.need(known)).state is State.PREPARED
                assert len([host for host in await own.hosts() if host.alive]) == 3

        known = ArtifactId.of(b"known")

        async def main():
            async with AsyncRegistry(cache) as registry:
                await registry.get_or_prepare(known, lambda: b"known")
                await registry.need(known)
                claim = await registry.claim(id)
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        asyncio.get_event_loop_policy().set_event_loop(None)
                        asyncio._set_running_loop(None)
                        asyncio.run(child(registry, claim))
                        code = 0
                    except BaseException as error:
                        print(repr(error), file=sys.stderr, flush=True)
                    finally:
                        os._exit(code)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                assert (await claim.publish(b"the parent's")).state is State.PREPARED
                await registry.remove(known)
                assert (await registry.check(checksums=True)).ok
        asyncio.run(main())
    """
    ended = run(script, cache)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert rival.check(checksums=True).ok
    assert len(rival.hosts()) == 1


def test_a_child_that_lives_on_does_not_keep_its_dead_parent_s_claim(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    script = """
        async def main():
            registry = await AsyncRegistry(cache).open()
            claim = await registry.claim(id)
            read, write = os.pipe()
            if os.fork() == 0:
                os.close(1), os.close(2), os.close(write)
                os.read(0, 1)  # lives until the test lets it go
                os._exit(0)
            os._exit(0)
        asyncio.run(main())
    """
    read, write = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-c", PRELUDE + dedent(script), str(cache)],
            stdin=read,
            timeout=PATIENCE,
            check=True,
        )
        artifact = rival.get_or_prepare(id, lambda: b"compiled")
    finally:
        os.close(write)
        os.close(read)
    assert artifact.state is State.PREPARED


def test_a_fork_while_handles_open_and_close_leaves_no_living_host(
    cache: Path, rival: Registry
) -> None:
    """The children live on; were a lock copied that no handle answers for, its host would, too."""
    script = """
        import threading
        stop = threading.Event()

        async def main():
            while not stop.is_set():
                async with AsyncRegistry(cache) as registry:
                    await registry.stats()

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            if os.fork() == 0:
                os.close(1), os.close(2)
                os.read(0, 1)
                os._exit(0)
        stop.set()
        for thread in threads:
            thread.join()
    """
    read, write = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", PRELUDE + dedent(script), str(cache)],
            stdin=read,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert [host.id for host in rival.hosts() if host.alive] == [rival._handle.host_id]
        locks = os.listdir(cache / "hosts")
        assert [name for name in locks if rival._world.hosts.is_alive(name[:-5])] == [
            f"{rival._handle.host_id}.lock"
        ]
    finally:
        os.close(write)
        os.close(read)
