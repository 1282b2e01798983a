"""A process that may open hardly any file more: each verb works, or says what to do."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from processes.crew import Crew, Line
from processes.traces import code_id
from registry import ArtifactId, AsyncRegistry, Claim, Registry, RegistryError
from registry.host import Host

KEPT = code_id("kept")
SPARE = range(7)


@contextmanager
def spare(number: int) -> Iterator[None]:
    """Let this process open so many files more, and no other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(number)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max([lowest - 1, *held]) + 1, hard))
    for descriptor in held:
        os.close(descriptor)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def claims(registry: Registry, id: ArtifactId) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.publish(b"artifact")


VERBS: dict[str, Callable[[Registry, ArtifactId], object]] = {
    "get": lambda r, _: r.get(KEPT),
    "need": lambda r, _: r.need(KEPT),
    "open_file": lambda r, _: r.open_file(KEPT).close(),
    "publish": claims,
    "get_or_prepare": lambda r, one: r.get_or_prepare(one, lambda: b"artifact"),
    "prune": lambda r, _: r.prune(cache_limit=20, min_stale_time=timedelta(0)),
    "check": lambda r, _: r.check(repair=True, checksums=True),
    "diagnose": lambda r, _: r.diagnose(),
    "stats": lambda r, _: r.stats(),
    "hosts": lambda r, _: r.hosts(),
    "remove": lambda r, one: r.remove(one),
    "maintain": lambda r, _: r.maintain(),
    "open another": lambda r, _: Registry(r.cache_dir).close(),
}


def told(error: Exception) -> str:
    """What a user sees of an error that is not ours, or that does not say what to do."""
    if isinstance(error, RegistryError) and "ulimit -n" in str(error):
        return ""
    return repr(error)


def tries_each_verb(line: Line, cache: Path) -> None:
    """Try each verb with so few descriptors, and say what is wrong with its errors."""
    with Registry(cache) as kept:
        kept.get_or_prepare(KEPT, lambda: b"kept")
    for number in SPARE:
        for name, verb in VERBS.items():
            one = code_id(f"{name} {number}")
            with Registry(cache) as registry:
                try:
                    with spare(number):
                        verb(registry, one)
                except Exception as error:
                    if told(error):
                        line.say(f"{name} with {number}: {told(error)}")
                registry.get_or_prepare(KEPT, lambda: b"kept")
                registry.get_or_prepare(one, lambda: b"artifact")
    line.say("done")


async def _tries_in_a_loop(line: Line, cache: Path) -> None:
    for number in SPARE:
        async with AsyncRegistry(cache) as registry:
            for name, work in {
                "need": lambda r, _: r.need(KEPT),
                "open_file": lambda r, _: r.open_file(KEPT),
                "get_or_prepare": lambda r, one: r.get_or_prepare(one, lambda: b"artifact"),
                "check": lambda r, _: r.check(checksums=True),
                "open another": lambda r, _: AsyncRegistry(r.cache_dir).open(),
            }.items():
                try:
                    with spare(number):
                        answer = await work(registry, code_id(f"{name} {number}"))
                except Exception as error:
                    if told(error):
                        line.say(f"{name} with {number}: {told(error)}")
                else:
                    if isinstance(answer, AsyncRegistry):
                        await answer.close()
                    elif hasattr(answer, "close"):
                        answer.close()
    line.say("done")


def tries_in_a_loop(line: Line, cache: Path) -> None:
    """The same in an event loop."""
    with Registry(cache) as kept:
        kept.get_or_prepare(KEPT, lambda: b"kept")
    asyncio.run(_tries_in_a_loop(line, cache))


async def _asks_a_host(line: Line, cache: Path) -> None:
    for number in (0, 6):  # each takes all the tries that a worker is given to start
        code = b'{"do": "answer", "it": %d}' % number
        async with AsyncRegistry(cache) as registry, Host(registry, "host.backends.echo") as host:
            try:
                with spare(number):
                    await host.execute(code, {}, {"do": "read"})
            except Exception as error:
                if told(error):
                    line.say(f"execute with {number}: {told(error)}")
            await host.execute(code, {}, {"do": "read"})
    line.say("done")


def asks_a_host(line: Line, cache: Path) -> None:
    """The same with a host, whose workers need descriptors too."""
    asyncio.run(_asks_a_host(line, cache))


@pytest.mark.parametrize("play", [tries_each_verb, tries_in_a_loop, asks_a_host])
def test_running_out_of_descriptors_is_told_and_harms_nothing(
    cache: Path, crew: Crew, play: Callable[[Line, Path], None]
) -> None:
    assert crew.start(play, cache).hear() == "done"
