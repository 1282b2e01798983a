"""Coroutine tests, each in a loop of its own; a cache that is made once and copied."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from registry import ArtifactId, Registry


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(scope="session")
def blank() -> Iterator[Path]:
    """An empty cache; migrating one takes longer than most tests here."""
    with _in_memory() as folder:
        Registry(folder / "cache").close()
        yield folder / "cache"


@pytest.fixture
def cache(blank: Path) -> Iterator[Path]:
    """The cache of this test, made but empty."""
    with _in_memory() as folder:
        yield Path(shutil.copytree(blank, folder / "cache"))


@contextmanager
def _in_memory() -> Iterator[Path]:
    """A folder in memory, where there is such a place.

    Nothing here is about what survives a power cut, and an fsync takes longer than most verbs.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def rival(cache: Path) -> Iterator[Registry]:
    """Another host on the same cache, a sync one."""
    with Registry(cache) as opened:
        yield opened


@pytest.fixture
def new_id() -> Callable[[], ArtifactId]:
    """Make ids, each of other code."""
    numbers = count()
    return lambda: ArtifactId.of(b"code %d" % next(numbers))


@pytest.fixture(name="id")
def one_id(new_id: Callable[[], ArtifactId]) -> ArtifactId:
    """The one id of a test that needs but one."""
    return new_id()
