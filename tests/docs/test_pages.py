"""The documents: their examples run, their links lead somewhere, and nothing public is left out."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import registry
from registry import host

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(
    r'^```(?P<kind>python|sh)(?: title="(?P<file>[\w.]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
HOWTO = [
    block
    for page in ("howto.md", "keyed.md", "native.md")
    for block in BLOCK.finditer((DOCS / page).read_text())
]


def environment(home: Path) -> dict[str, str]:
    """One in which `registry` and `python` are ours, and the cache is nobody's yet."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "HOME": str(home), "REGISTRY_CACHE": str(home / "user")}
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{home}", **own}


def run(home: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


PYTHON = [block for block in HOWTO if block["kind"] == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda it: it["file"] or it["text"].split("\n")[0])
def test_the_python_of_how_to_runs(tmp_path: Path, block: re.Match[str]) -> None:
    file = tmp_path / (block["file"] or "example.py")
    file.write_text(block["text"])
    if "from celery" in block["text"]:
        pytest.importorskip("celery")
    if file.name.startswith("test_"):
        run(tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "registry.testing", file.name)
    else:
        run(tmp_path, sys.executable, "-W", "error", file.name)


def test_the_commands_of_how_to_run(tmp_path: Path) -> None:
    lines = [line for block in HOWTO if block["kind"] == "sh" for line in block["text"].split("\n")]
    commands = [line for line in lines if line.startswith("registry ")]
    assert len(commands) > 5
    for command in commands:
        run(tmp_path, "sh", "-c", command)


def test_the_page_of_the_command_is_what_the_command_says() -> None:
    page = runpy.run_path(str(DOCS / "generate.py"))["page"]()
    assert (DOCS / "command.md").read_text() == page, (
        "write it anew: python docs/generate.py > docs/command.md"
    )


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


EXAMPLES = [*PAGES, ROOT / "README.md", *(ROOT / "examples").glob("*.py")]


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.name)
def test_no_example_gives_another_thing_the_name_of_the_module(page: Path) -> None:
    """Who copies `import registry` from one example and a line of another would lose the module."""
    given = re.compile(r"\bas registry\b|^\s*registry *(?::|=[^=])", re.MULTILINE)
    assert not given.findall(page.read_text())


def test_every_page_is_in_the_site() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


# --- docstrings ---------------------------------------------------------------------------------


def public() -> list[tuple[str, object]]:
    """Every public name, and every public method of it that is ours, its bases' too."""
    names = [(name, getattr(registry, name)) for name in registry.__all__ if name != "__version__"]
    members = [
        (f"{name}.{inner}", inspect.getattr_static(it, inner))
        for name, it in names
        if inspect.isclass(it)
        for base in it.__mro__
        if base.__module__.startswith("registry")
        for inner in vars(base)
        if not inner.startswith("_")
    ]
    return names + [
        (name, it)
        for name, it in members
        if isinstance(it, FunctionType | property | classmethod | staticmethod)
    ]


@pytest.mark.parametrize(("name", "it"), public(), ids=[name for name, _ in public()])
def test_every_public_name_says_what_it_is(name: str, it: object) -> None:
    says = inspect.getdoc(it.__func__ if isinstance(it, classmethod | staticmethod) else it)
    assert says, name
    assert says[0].isupper()
    assert says.split("\n\n")[0].rstrip().endswith((".", ";")), says


def test_the_reference_has_every_public_name() -> None:
    page = (DOCS / "api.md").read_text()
    shown = set(re.findall(r"^::: registry\.([\w.]+)$", page, re.MULTILINE))
    errors = set(registry.errors.__all__)  # shown as a module
    assert shown | errors >= set(registry.__all__) - {"__version__"}
    assert shown | {f"host.{error}" for error in errors} >= {f"host.{it}" for it in host.__all__}
    assert {"wasm", "metrics", "testing"} <= shown
