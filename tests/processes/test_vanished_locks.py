"""Lock files that a cleaner removes under living hosts: nobody is taken for dead because of it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from processes.crew import Crew, Line
from processes.traces import claimed, code_id
from registry import Artifact, AsyncRegistry, Claim, Registry, RegistryBusy, State
from registry.opening.cache import downgrade_cache
from registry.world.hosts import Hosts

ID = code_id("x")
DAYS = 20 * 24 * 3600


def locks_removed(cache: Path) -> None:
    for lock in (cache / "hosts").iterdir():
        lock.unlink()


def folder_removed(cache: Path) -> None:
    shutil.rmtree(cache / "hosts")


def folder_replaced(cache: Path) -> None:
    (cache / "hosts").rename(cache / "hosts-of-before")
    (cache / "hosts").mkdir(0o700)


def locks_replaced_by_copies(cache: Path) -> None:
    """As a folder is that was restored from a backup: the files are there, nobody holds them."""
    (cache / "hosts").rename(cache / "hosts-of-before")
    shutil.copytree(cache / "hosts-of-before", cache / "hosts")


vanishing = pytest.mark.parametrize(
    "vanish", [locks_removed, folder_removed, folder_replaced, locks_replaced_by_copies]
)


def prepares(line: Line, cache: Path) -> Any:
    with Registry(cache) as registry:
        line.ask("open")

        def prepare() -> bytes:
            line.ask("preparing")
            return b"good"

        return registry.get_or_prepare(ID, prepare).num_failures


def prepares_in_a_loop(line: Line, cache: Path) -> Any:
    async def play() -> int:
        async with AsyncRegistry(cache) as registry:
            line.ask("open")

            def prepare() -> bytes:
                line.ask("preparing")
                return b"good"

            return (await registry.get_or_prepare(ID, prepare)).num_failures

    return asyncio.run(play())


@vanishing
@pytest.mark.parametrize("act", [prepares, prepares_in_a_loop])
def test_one_whose_lock_vanished_before_it_claims_is_not_taken_for_dead(
    cache: Path, crew: Crew, vanish: Callable[[Path], None], act: Callable[..., Any]
) -> None:
    child = crew.start(act, cache)
    child.expect("open")
    vanish(cache)
    child.tell()
    child.expect("preparing")
    # Its lock is there again, and held.
    with Registry(cache) as registry:
        (host,) = (host for host in registry.hosts() if host.pid == child.pid)
        assert host.alive
        assert (cache / "hosts" / f"{host.id}.lock").exists()
        assert not isinstance(registry.claim(ID), Claim)
        assert registry.check().ok
        child.tell()
        done = registry.wait(ID)
    assert done is not None
    assert (done.state, done.num_failures) == (State.PREPARED, 0)
    assert child.hear() == 0


@pytest.mark.parametrize("vanish", [locks_removed, folder_removed, folder_replaced])
@pytest.mark.parametrize("act", [prepares, prepares_in_a_loop])
def test_one_whose_lock_vanishes_while_it_prepares_is_not_taken_for_dead(
    cache: Path, crew: Crew, vanish: Callable[[Path], None], act: Callable[..., Any]
) -> None:
    """Its own code runs, so it cannot see to its lock; but its process runs."""
    waiter = Registry(cache)
    child = crew.start(act, cache)
    child.expect("open")
    child.tell()
    child.expect("preparing")
    vanish(cache)
    with Registry(cache) as newcomer:  # which reaps the dead
        for registry in (waiter, newcomer):
            assert child.pid in {host.pid for host in registry.hosts() if host.alive}
            assert not isinstance(registry.claim(ID), Claim)
            registry.maintain()
        child.tell()
        done = newcomer.wait(ID)
    assert done is not None
    assert (done.state, done.num_failures) == (State.PREPARED, 0)
    assert child.hear() == 0
    assert waiter.check().ok
    waiter.close()


def test_one_that_is_killed_after_its_lock_vanished_is_dead(cache: Path, crew: Crew) -> None:
    child = crew.start(prepares, cache)
    child.expect("open")
    child.tell()
    child.expect("preparing")
    locks_removed(cache)
    child.kill()
    with Registry(cache) as registry:
        done = registry.get_or_prepare(ID, lambda: b"again")
        assert done.state is State.PREPARED
        assert [host.pid for host in registry.hosts()] == [os.getpid()]
        assert registry.check().ok


def holds_its_lock(cache: Path, host_id: str) -> bool:
    """What the lock alone says, whatever its process does."""
    if not (cache / "hosts").exists():
        return False
    with closing(Hosts(cache / "hosts")) as hosts:
        return hosts.is_alive(host_id)


@pytest.mark.parametrize("vanish", [locks_removed, folder_removed, folder_replaced])
def test_those_who_wait_make_theirs_anew(
    cache: Path, crew: Crew, vanish: Callable[[Path], None]
) -> None:
    with Registry(cache) as registry:
        claim = claimed(registry, ID)
        child = crew.start(waits, cache)
        child.expect("waiting")
        (waiter,) = (host.id for host in registry.hosts() if host.pid == child.pid)
        vanish(cache)
        while not holds_its_lock(cache, waiter):
            pass  # ended by the time-out of the test
        claim.publish(b"good")
        assert child.hear() == State.PREPARED
        assert registry.check().ok


def waits(line: Line, cache: Path) -> Any:
    with Registry(cache) as registry:
        line.say("waiting")
        artifact = registry.wait(ID)
        assert isinstance(artifact, Artifact)
        return artifact.state


@pytest.mark.parametrize("vanish", [locks_removed, folder_removed])
def test_the_schema_is_not_taken_back_under_a_host_whose_lock_vanished(
    cache: Path, crew: Crew, vanish: Callable[[Path], None]
) -> None:
    child = crew.start(prepares, cache)
    child.expect("open")
    vanish(cache)
    with pytest.raises(RegistryBusy, match=r"1 host\(s\) have"):
        downgrade_cache(cache, "0003")
    child.kill()
    downgrade_cache(cache, "0003")
    with Registry(cache) as registry:
        assert registry.check().ok


def test_a_lock_is_kept_young_so_that_cleaners_spare_it(cache: Path) -> None:
    with Registry(cache) as registry:
        (lock,) = (cache / "hosts").iterdir()
        old = lock.stat().st_mtime - DAYS
        os.utime(lock, (old, old))
        assert registry.get(ID) is None
        assert lock.stat().st_mtime > old + DAYS / 2
        assert [lock] == list((cache / "hosts").iterdir())


def test_one_that_cannot_leave_leaves_its_lock_so_that_all_see_that_it_is_gone(
    cache: Path, crew: Crew
) -> None:
    """Its process runs on; but a file that is there and unlocked proves that nobody is."""
    with Registry(cache) as other:
        child = crew.start(cannot_leave, cache)
        child.expect("claimed")
        cache.rename(cache.with_name("away"))
        child.tell()
        child.expect("closed")
        cache.with_name("away").rename(cache)
        assert other.get_or_prepare(ID, lambda: b"again").state is State.PREPARED
        other.check(repair=True)
        assert len(other.hosts()) == 1
        assert other.check().ok
        child.tell()
        assert child.hear() is None


def cannot_leave(line: Line, cache: Path) -> None:
    registry = Registry(cache)
    claim = claimed(registry, ID)
    line.ask("claimed")
    registry.close()
    line.ask("closed")
    del claim
