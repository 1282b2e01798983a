"""Caches made once and copied: making one costs ten times what opening a copy does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from registry import Registry

__all__ = ["cache_in_memory", "copied_cache", "made_cache"]


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


@pytest.fixture(name="cache")
def cache_in_memory(made_cache: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it in memory, where there is a place for that: for tests that write a lot."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield shutil.copytree(made_cache, Path(folder) / "cache")
