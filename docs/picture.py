"""Draw the folders in the order of their imports: `python docs/picture.py > docs/architecture.svg`.

The order comes from the import contract in `pyproject.toml`, the folders from `registry/`.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "registry"
CAPTIONS = {
    "cli": "the command",
    "testing": "pytest fixtures",
    "host": "worker processes",
    "doctor": "what is wrong",
    "metrics": "for Prometheus",
    "recovery": "what can be saved",
    "confinement": "kernel sandboxes",
    "wasm": "a backend",
    "cuda": "for cuda.core",
    "jax": "JAX's cache",
    "native": "shared objects",
    "numba": "Numba's cache",
    "triton": "Triton's cache",
    "sync": "Registry",
    "aio": "AsyncRegistry",
    "opening": "directory, lock, migration",
    "world": "files, connections, locks, clocks",
    "verbs": "claim, need, publish, prune, ...",
    "sql": "statements as text",
    "schema": "tables, triggers, views",
}
STYLE = """\
<style>
  rect { fill: none; stroke: #5b7fb0; stroke-width: 1.4 }
  rect.sub { stroke-dasharray: 3 3 }
  path { fill: none; stroke: #888; stroke-width: 1.4 }
  text { font-family: sans-serif; fill: #4a6fa5 }
  text.name { font-size: 15px; font-weight: bold }
  text.what { font-size: 12px; fill: #808080 }
</style>
"""
LEFT, WIDTH, GAP, HEIGHT, STEP = 20, 720, 16, 56, 76
FILE_HEIGHT, FILES_A_LINE = 22, 5


def layers() -> list[list[str]]:
    """The layers of the import contract, the highest first; each is a list of modules."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (it for it in contracts["contracts"] if it.get("containers") == ["registry"])
    rows = [layer.replace(":", "|").split("|") for layer in contract["layers"]]
    return [[name.strip(" ()") for name in row] for row in rows if row != ["__main__"]]


def rows() -> list[list[str]]:
    """The rows of the picture: files of layers that follow each other share one."""
    drawn: list[list[str]] = []
    for layer in layers():
        if drawn and _only_files(layer) and _only_files(drawn[-1]):
            drawn[-1] += layer
        else:
            drawn.append(list(layer))
    return drawn


def picture() -> str:
    """The whole picture."""
    y, boxes = LEFT, []
    for row in rows():
        if boxes:
            boxes.append(f'<path d="M380 {y - 18} v12 m-4 -4 l4 4 l4 -4"/>')
        height = _height(row)
        boxes += _files(row, y, height) if _only_files(row) else _folders(row, y)
        y += height + STEP - HEIGHT
    size = f'viewBox="0 0 760 {y}"'
    label = "The folders of registry, in the order of their imports"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">\n'
    return head + STYLE + "\n".join(boxes) + "\n</svg>\n"


def _only_files(row: list[str]) -> bool:
    return not any((PACKAGE / name).is_dir() for name in row)


def _height(row: list[str]) -> int:
    lines = -(-len(row) // FILES_A_LINE)
    return 16 + lines * FILE_HEIGHT if _only_files(row) else HEIGHT


def _files(row: list[str], y: int, height: int) -> Iterator[str]:
    yield _box(LEFT, y, WIDTH, height)
    for n, name in enumerate(row):
        x = LEFT + 12 + n % FILES_A_LINE * 142
        yield _text("name", x, y + 24 + n // FILES_A_LINE * FILE_HEIGHT, f"{name}.py")


def _folders(row: list[str], y: int) -> Iterator[str]:
    width = (WIDTH - GAP * (len(row) - 1)) // len(row)
    for n, name in enumerate(row):
        x = LEFT + n * (width + GAP)
        folder = PACKAGE / name
        yield _box(x, y, width, HEIGHT)
        yield _text("name", x + 12, y + 24, f"{name}/" if folder.is_dir() else f"{name}.py")
        yield _text("what", x + 12, y + 44, CAPTIONS[name])
        inner = sorted(it.parent.name for it in folder.glob("*/__init__.py"))
        for m, sub in enumerate(reversed(inner), 1):
            at = x + width - 4 - m * 100
            yield _box(at, y + 13, 92, 30, "sub")
            yield _text("what", at + 10, y + 32, f"{sub}/")


def _box(x: int, y: int, width: int, height: int, kind: str = "box") -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def _text(kind: str, x: int, y: int, words: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{words}</text>'


if __name__ == "__main__":
    sys.stdout.write(picture())
