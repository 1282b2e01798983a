"""Caches made once and copied: making one costs ten times what opening a copy does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from registry import Registry

__all__ = ["copied_cache", "made_cache"]


@pytest.fixture(scope="module")
def made_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that was just made, closed."""
    made = tmp_path_factory.mktemp("template") / "cache"
    Registry(made).close()
    return made


@pytest.fixture(name="cache")
def copied_cache(made_cache: Path, tmp_path: Path) -> Path:
    """A copy of it; a module that imports both fixtures has this for its `cache`."""
    return shutil.copytree(made_cache, tmp_path / "cache")
