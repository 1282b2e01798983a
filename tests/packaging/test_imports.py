"""What is not needed is not imported: who prepares nothing and awaits nothing pays for neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry import Registry

# SQLAlchemy imports asyncio by itself; what is ours of it is not imported.
ASYNC = {"aiosqlite", "registry.aio"}
HEAVY = ASYNC | {
    "alembic",
    "msgpack",
    "rich",
    "click",
    "jinja2",
    "prometheus_client",
    "wasmtime",
    "zstandard",
}
USE = """
import sys
from registry import ArtifactId, Claim, PreparationFailed, Registry

with Registry(sys.argv[1]) as registry:
    id = ArtifactId.of(b"code")
    registry.get_or_prepare(id, lambda: b"artifact")
    registry.open_file(id).close()
    assert isinstance(registry.claim(ArtifactId.of(b"another")), Claim)
    list(registry.artifacts())
    registry.check()
    registry.prune()
    registry.remove(id)
print(*sys.modules)
"""


def imported(*arguments: str) -> set[str]:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_using_a_cache_that_is_there_imports_nothing_heavy(cache: Path) -> None:
    Registry(cache).close()  # making one takes Alembic
    assert imported("-c", USE, str(cache)) & HEAVY == set()


@pytest.mark.parametrize("name", ["ArtifactId", "State", "PrepareError", "CleanupConfig"])
def test_what_a_worker_imports_needs_no_database(name: str) -> None:
    words = f"import sys; from registry import {name}; print(*sys.modules)"
    assert imported("-c", words) & (HEAVY | {"asyncio", "sqlalchemy", "sqlite3"}) == set()


def test_the_async_handle_imports_what_it_needs() -> None:
    words = "import sys; from registry import AsyncRegistry; print(*sys.modules)"
    assert imported("-c", words) >= ASYNC


FORKED = """
import os, sys
import registry

registry.preload()
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
before = set(sys.modules)
import asyncio
from registry import ArtifactId, AsyncRegistry, PreparationFailed, Registry, prepared

id = ArtifactId.of(b"code")


def fails():
    raise ValueError


@prepared(version=1, name="kernel")
def kernel(size):
    return b"x" * size


async def in_a_loop():
    async with AsyncRegistry(sys.argv[1]) as registry:
        await registry.get_or_prepare(ArtifactId.of(b"other"), lambda: b"artifact")


def in_a_thread():
    with Registry(sys.argv[1]) as registry:
        registry.get_or_prepare(id, lambda: b"artifact")
        registry.open_file(id).close()
        try:
            registry.get_or_prepare(ArtifactId.of(b"bad"), fails)
        except PreparationFailed as error:
            str(error)
        assert registry.check(checksums=True).ok
        registry.prune(), registry.diagnose(), registry.measure(), registry.history(id)


{first}
print(*(set(sys.modules) - before))
"""


@pytest.mark.parametrize("first", ["in_a_thread()", "kernel(5)", "asyncio.run(in_a_loop())"])
@pytest.mark.parametrize("is_there", [True, False])
def test_after_preloading_the_first_verb_of_a_forked_process_imports_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, first: str, is_there: bool
) -> None:
    if is_there:
        Registry(cache).close()
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))
    assert imported("-c", FORKED.replace("{first}", first), str(cache)) == set()
