"""Links for the names in docstrings: an extension of mkdocstrings, named in `mkdocs.yml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object

_NAMES = re.compile(r"^::: (registry\.[\w.]+)$", re.MULTILINE)
_QUOTED = re.compile(r"(?<!\[)`([A-Z]\w+|prepared|[A-Z]\w+\.\w+)`(?!\])")


def targets() -> dict[str, str]:
    """Each name that the reference has, with its anchor."""
    root = Path(__file__).parents[1]
    shown = _NAMES.findall((root / "docs" / "api.md").read_text())
    listed = (root / "registry" / "errors.py").read_text().partition("__all__ = [")[2]
    errors = re.findall(r'"(\w+)"', listed.partition("]")[0])
    names = [*(f"registry.errors.{error}" for error in errors), *shown]
    return {name.rpartition(".")[2]: name for name in names}


class Links(Extension):
    """Turn `Name` into a link wherever a docstring quotes a name of the reference."""

    def __init__(self) -> None:
        super().__init__()
        self._targets = targets()

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _QUOTED.sub(self._link, obj.docstring.value)

    def _link(self, found: re.Match[str]) -> str:
        name, _, member = found[1].partition(".")
        anchor = self._targets.get(name)
        return f"[`{found[1]}`][{anchor}{'.' * bool(member)}{member}]" if anchor else found[0]
