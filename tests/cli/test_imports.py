"""What is not needed is not imported: the command is to be quick."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.command import Command

HEAVY = ("alembic", "rich", "wasmtime", "zstandard")


def _imported(command: Command, *arguments: str) -> set[str]:
    script = (
        "import sys; from registry.cli import main; main(); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=command.home,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("verb", ["ls", "stats", "config", "--help"])
def test_looking_at_a_cache_imports_neither_compiler_nor_migrations(
    command: Command, verb: str
) -> None:
    command("db", "upgrade")
    assert not _imported(command, verb).intersection(HEAVY)
