"""The page about the architecture names what is there, and its picture is up to date."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = ROOT / "docs" / "architecture.svg"
MODULES = sorted(
    f"{it.name}/" if it.is_dir() else it.name
    for it in (ROOT / "registry").iterdir()
    if it.suffix == ".py" or (it / "__init__.py").exists()
)


@pytest.mark.parametrize("module", MODULES)
def test_every_folder_and_top_level_module_is_on_the_page(module: str) -> None:
    assert module == "__init__.py" or f"`{module}`" in PAGE


def test_every_file_that_the_page_names_is_there() -> None:
    files = {it.relative_to(ROOT / "registry") for it in (ROOT / "registry").rglob("*")}
    for name in re.findall(r"`([\w/]+\.(?:py|sql))", PAGE):
        named = Path(name)
        assert (ROOT / name).exists() or any(
            it.parts[-len(named.parts) :] == named.parts for it in files
        ), name


def test_the_picture_is_up_to_date() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "picture.py"))["picture"]()
    assert PICTURE.read_text() == drawn, (
        "draw it again: python docs/picture.py > docs/architecture.svg"
    )
