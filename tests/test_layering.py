"""Imports go down the list of layers only, and what is heavy is imported when it is used."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
# Each takes longer to import than the rest of the registry together, or belongs to an extra.
HEAVY = {
    "aiosqlite",
    "alembic",
    "click",
    "concurrent.futures.process",
    "mako",
    "multiprocessing",
    "platformdirs",
    "rich",
    "sqlalchemy.ext",
    "sqlalchemy.orm",
    "wasmtime",
    "zstandard",
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def imported_by(statement: str) -> set[str]:
    told = run("-c", f"import sys; {statement}; print(*sys.modules)")
    assert told.returncode == 0, told.stderr
    return set(told.stdout.split())


def test_imports_go_down_only() -> None:
    told = run("-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])")
    assert told.returncode == 0, told.stdout


def test_no_import_goes_in_a_circle() -> None:
    """Not even one that only types take part in."""
    graph = grimp.build_graph("registry", exclude_type_checking_imports=False, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 200
    TopologicalSorter(imports).prepare()  # raises `CycleError`, which names one


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert HEAVY & imported_by("import registry") == set()


def test_opening_a_cache_that_is_ready_imports_nothing_heavy(tmp_path: Path) -> None:
    """Alembic is only for what is to be made or migrated."""
    open_it = f"import registry; registry.Registry({str(tmp_path / 'cache')!r}).close()"
    assert "alembic" in imported_by(open_it)
    assert HEAVY & imported_by(open_it) == set()


def test_the_async_handle_is_imported_when_it_is_asked_for() -> None:
    assert "registry.aio" not in imported_by("import registry")
    assert "registry.aio" in imported_by("from registry import AsyncRegistry")
