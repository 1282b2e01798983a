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
