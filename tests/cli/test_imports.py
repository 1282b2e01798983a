"""What is not needed is not imported: the command is to be quick."""

from __future__ import annotations

import subprocess
import sys

from support.artifacts import prepared
from support.command import Command

from registry import Registry

HEAVY = ("alembic", "rich", "jinja2", "prometheus_client", "wasmtime", "zstandard")
SCRIPT = """
import sys
from registry.cli import main
for verb in ("--help", "ls", "stats", "config", "check", "prune"):
    assert main([verb]) == 0
print(*sys.modules, file=sys.stderr)
"""


def test_looking_after_a_cache_imports_neither_compiler_nor_migrations(
    command: Command, registry: Registry
) -> None:
    prepared(registry, "one")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=command.home,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(done.stderr.split()).intersection(HEAVY)
