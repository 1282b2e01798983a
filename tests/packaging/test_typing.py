"""The types of the public names, as mypy and pyright see them from outside of the package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import registry

TYPED = Path(__file__).parent / "typed"
PLACE = Path(registry.__file__).parents[1]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with the uses in it, and nothing of ours around it."""
    return Path(shutil.copytree(TYPED, tmp_path / "uses"))


def check(outside: Path, *command: str) -> None:
    """Let a checker find the package as a user's would: installed, and so by its py.typed."""
    environment = dict(os.environ)
    if PLACE.name != "site-packages":  # a checkout, which is not installed
        environment |= {"MYPYPATH": str(PLACE), "PYTHONPATH": str(PLACE)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=outside,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_agrees(outside: Path) -> None:
    check(outside, "mypy", "--strict", "--cache-dir", str(outside / "cache"), "uses.py")


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_agrees(outside: Path) -> None:
    check(outside, "pyright", "--pythonpath", sys.executable, "uses.py")


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(registry.__file__).with_name("py.typed").exists()
