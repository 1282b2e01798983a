"""Imports go down the list of layers only, and what is heavy is imported when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Container, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
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


def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    found = {}
    for path in (ROOT / "registry").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"))
    return found


def exported(module: ast.Module) -> set[str]:
    """The names of `__all__`; none where there is no such list."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def taken(module: ast.Module, known: Container[str]) -> Iterator[tuple[str, str]]:
    """Each name that a module takes from one of ours, also by way of the module itself."""
    aliases = {}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            for name in node.names:
                if (whole := f"{node.module}.{name.name}") in known:
                    aliases[name.asname or name.name] = whole
                else:
                    yield node.module, name.name
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            whole = aliases.get(node.value.id)
            if whole and f"{whole}.{node.attr}" not in known:
                yield whole, node.attr


def test_what_modules_take_from_each_other_is_exported() -> None:
    ours = modules()
    exports = {name: exported(module) for name, module in ours.items()}
    private = [
        f"{importer} takes {name} from {source}"
        for importer, module in ours.items()
        for source, name in taken(module, ours)
        if name not in exports[source] and not name.startswith("__")
    ]
    assert len(ours) > 200
    assert private == []


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
