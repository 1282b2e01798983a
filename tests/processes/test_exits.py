"""How a process that never closed its handle ends, and what becomes of its claim."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes.crew import Crew, Line
from processes.traces import claimed, code_id, query
from registry import Registry, State

X = code_id("x")

OPEN = """
import os, signal, sys
from processes.traces import claimed, code_id
from registry import Registry
registry = Registry(sys.argv[1])
claim = claimed(registry, code_id("x"))
"""
OPEN_ASYNC = """
import asyncio, sys
from processes.traces import code_id
from registry import AsyncRegistry
async def main():
    global registry, claim
    registry = await AsyncRegistry(sys.argv[1]).open()
    claim = await registry.claim(code_id("x"))
asyncio.run(main())
"""


def run(cache: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(cache)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (OPEN, 0),
        (OPEN + "sys.exit(3)", 3),
        (OPEN + "raise RuntimeError('unhandled')", 1),
        (OPEN + "os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        (OPEN + "second = Registry(sys.argv[1]); third = claimed(second, code_id('y'))", 0),
        (OPEN_ASYNC, 0),
    ],
    ids=["its end", "sys.exit", "an exception", "ctrl-c", "two handles", "async"],
)
def test_an_exit_without_close_gives_claims_back(cache: Path, program: str, status: int) -> None:
    ended = run(cache, program)

    assert ended.returncode == status, ended.stderr
    assert ended.stderr == "" or status
    assert query(cache, "SELECT id FROM artifact") == []
    assert query(cache, "SELECT id FROM host") == []
    assert os.listdir(cache / "hosts") == []


def test_an_exit_restores_the_failure_that_was_there_before_the_claim(cache: Path) -> None:
    with Registry(cache) as registry:
        claimed(registry, X).fail("earlier")
        registry.retry(X)
        before = registry.get(X)

        assert run(cache, OPEN).returncode == 0

        assert registry.get(X) == before


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (OPEN + "os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
        (OPEN + "os.kill(os.getpid(), signal.SIGKILL); signal.pause()", -signal.SIGKILL),
        (OPEN + "os._exit(0)", 0),
    ],
    ids=["SIGTERM", "SIGKILL", "os._exit"],
)
def test_an_end_that_python_does_not_see_is_a_death(cache: Path, program: str, status: int) -> None:
    assert run(cache, program).returncode == status

    with Registry(cache) as registry:
        found = registry.get(X)
        assert found is not None
        assert (found.state, found.error_kind, found.num_failures) == ("failed", "host_died", 1)
        assert len(registry.hosts()) == 1
        assert registry.get_or_prepare(X, lambda: b"at once").state is State.PREPARED


_kept = []


def claims_and_returns(line: Line, cache: Path) -> None:
    """Leave a handle and a claim in a global, as the initializer of a pool's worker does."""
    registry = Registry(cache)
    _kept.append((registry, claimed(registry, X)))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing_that_returns_gives_claims_back(
    cache: Path, crew: Crew, method: str
) -> None:
    assert crew.start(claims_and_returns, cache, method=method).join() == 0

    assert query(cache, "SELECT state FROM artifact") == []
    assert os.listdir(cache / "hosts") == []
