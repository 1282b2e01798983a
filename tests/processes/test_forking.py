"""Forks: the child's copies of the parent's handle do no harm, and it can open its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes.crew import Crew, Line
from processes.traces import assert_clean, claimed, code_id, query
from registry import Claim, HandleForked, Registry


def uses_and_opens(line: Line, cache: Path, inherited: Registry | None) -> tuple[str, str]:
    """Try an inherited handle, then open another, which works."""
    refusal = "was handed none"
    if inherited is not None:
        with pytest.raises(HandleForked) as refused:
            inherited.need(code_id("parent"))
        refusal = str(refused.value)
    with Registry(cache) as own:
        assert own.need(code_id("parent")) is not None
        made = own.get_or_prepare(code_id("child"), lambda: b"child")
    return refusal, str(made.path)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_process_opens_its_own_handle_beside_its_parents(
    cache: Path, crew: Crew, method: str
) -> None:
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("parent"), lambda: b"parent")

        child = crew.start(
            uses_and_opens, cache, registry if method == "fork" else None, method=method
        )
        refusal, path = child.hear()

        assert child.join() == 0
        assert method != "fork" or "open a new one" in refusal
        found = registry.need(code_id("child"))
        assert found is not None
        assert str(found.path) == path
        assert registry.check(checksums=True).ok


def test_a_subprocess_opens_its_own_handle_beside_its_parents(cache: Path) -> None:
    program = (
        "import sys; from registry import ArtifactId, Registry\n"
        "registry = Registry(sys.argv[1])\n"
        "registry.get_or_prepare(ArtifactId.of(b'code child'), lambda: b'child')\n"
    )
    with Registry(cache) as registry:
        subprocess.run([sys.executable, "-c", program, str(cache)], check=True)

        assert registry.need(code_id("child")) is not None
        assert len(registry.hosts()) == 1
        assert registry.check().ok


def forks_and_waits(line: Line, cache: Path) -> None:
    """Claim, fork a child that only lives, and say its pid."""
    registry = Registry(cache)
    claimed(registry, code_id("x"))
    until_told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(until_told, 1)  # ends with the one who forked us: then the lock must be free
        os.read(line._pipe.fileno(), 1)
        os._exit(0)
    line.ask(child)


def test_a_dead_parent_is_dead_though_its_forked_child_lives(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        parent = crew.start(forks_and_waits, cache)
        orphan = parent.hear()
        assert not isinstance(registry.claim(code_id("x")), Claim), "its parent lives"

        parent.kill()

        os.kill(orphan, 0)  # the child does live
        found = registry.get_or_prepare(code_id("x"), lambda: b"taken over")
        assert found.size == 10
        os.kill(orphan, 9)


def test_a_childs_end_lets_go_of_nothing_that_is_its_parents(cache: Path) -> None:
    with Registry(cache) as registry, Registry(cache) as other:
        claim = claimed(registry, code_id("x"))

        child = os.fork()
        if child == 0:
            registry.close()  # what it inherited is closed already
            del registry, claim
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        assert all(host.alive for host in other.hosts())
        assert not isinstance(other.claim(code_id("x")), Claim)
        claim.publish(b"the parent's")
        assert other.need(code_id("x")) is not None


def leaves_by_the_front_door(cache: str) -> None:
    """A program whose forked child ends as a program does: its atexit functions run."""
    registry = Registry(cache)
    claim = claimed(registry, code_id("x"))
    child = os.fork()
    if child == 0:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    claim.publish(b"after the child's end")
    registry.close()


def test_a_child_that_exits_runs_no_end_of_its_parents_handles(cache: Path) -> None:
    program = f"from processes.test_forking import *; leaves_by_the_front_door({str(cache)!r})"
    subprocess.run([sys.executable, "-c", program], check=True, env=_with_tests())

    assert [artifact.size for artifact in assert_clean(cache)] == [21]


def test_what_a_child_publishes_survives_its_parents_closing(cache: Path) -> None:
    # SQLite notes per process what it has locked. A child that inherits the note, not the locks,
    # would work on a WAL that its parent deletes when it closes as the last who holds a lock.
    told_by_child, tell_parent = os.pipe()
    told_by_parent, tell_child = os.pipe()
    registry = Registry(cache)
    registry.get_or_prepare(code_id("parent"), lambda: b"parent")

    child = os.fork()
    if child == 0:
        status = 1
        try:
            with Registry(cache) as own:
                own.get_or_prepare(code_id("before"), lambda: b"before")
                os.write(tell_parent, b".")
                os.read(told_by_parent, 1)
                own.get_or_prepare(code_id("after"), lambda: b"after")
                os.write(tell_parent, b".")
                os.read(told_by_parent, 1)
            status = 0
        finally:
            os._exit(status)
    assert os.read(told_by_child, 1)
    registry.close()
    os.write(tell_child, b".")
    assert os.read(told_by_child, 1)

    with Registry(cache) as third:
        found = {artifact.id for artifact in third.artifacts()}
        assert found == {code_id("parent"), code_id("before"), code_id("after")}
        assert third.check(checksums=True).ok
        os.write(tell_child, b".")
        assert os.waitpid(child, 0)[1] == 0
    for fd in (told_by_child, tell_parent, told_by_parent, tell_child):
        os.close(fd)


def test_the_parents_handle_goes_on_after_a_fork(cache: Path) -> None:
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("before"), lambda: b"before")
        lock = query(cache, "SELECT id FROM host")

        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            registry.get_or_prepare(code_id(child), lambda: b"after")

        assert registry.need(code_id("before")) is not None
        assert query(cache, "SELECT id FROM host") == lock
        assert registry.check().ok


def forks_under_load(line: Line, cache: Path, threads: int, forks: int) -> int:
    """Fork while other threads run statements; each child opens a handle and uses it."""
    import threading

    registry = Registry(cache)
    busy = threading.Event()

    def work(mine: int) -> None:
        number = 0
        while not busy.is_set():
            number += 1
            registry.get_or_prepare(code_id((mine, number)), lambda: b"x")

    crowd = [threading.Thread(target=work, args=(mine,)) for mine in range(threads)]
    for thread in crowd:
        thread.start()
    for fork in range(forks):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Registry(cache) as own:
                    own.get_or_prepare(code_id(("forked", fork)), lambda: b"y")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    busy.set()
    for thread in crowd:
        thread.join()
    registry.close()
    return forks


def test_forking_in_the_middle_of_other_threads_statements_is_safe(cache: Path, crew: Crew) -> None:
    child = crew.start(forks_under_load, cache, 3, 10)

    child.expect(10)

    made = {artifact.id for artifact in assert_clean(cache)}
    assert {code_id(("forked", fork)) for fork in range(10)} <= made


def forks_in_a_loop(line: Line, cache: Path) -> bool:
    """Fork from a coroutine whose handle's threads are at work."""
    import asyncio

    from registry import AsyncRegistry

    async def story() -> bool:
        async with AsyncRegistry(cache) as registry:
            await registry.get_or_prepare(code_id("parent"), lambda: b"parent")
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    with Registry(cache) as own:
                        own.get_or_prepare(code_id("child"), lambda: b"child")
                    status = 0
                finally:
                    os._exit(status)
            loop = asyncio.get_running_loop()
            ended: Any = await loop.run_in_executor(None, os.waitpid, child, 0)
            assert ended[1] == 0
            return await registry.need(code_id("child")) is not None

    return asyncio.run(story())


def test_an_async_handle_survives_a_fork_as_well(cache: Path, crew: Crew) -> None:
    crew.start(forks_in_a_loop, cache).expect(True)


def _with_tests() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
