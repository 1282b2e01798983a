"""What a run stands on: a fresh cache, made once by the product and copied, and peace."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from registry.opening.cache import database_path, open_cache
from registry.world.connection import connect

from .host import Clock
from .machine import Machine

__all__ = ["empty_cache", "picture", "simulated"]

FOLDERS = ("artifacts", "hosts", "workers")


@contextmanager
def simulated(contents: Mapping[str, bytes] | None = None) -> Iterator[Machine]:
    """A machine with an empty cache, or one with given contents, to be stepped by hand."""
    with _scratch() as folder, _undisturbed():
        machine = Machine(_written(folder / "cache", contents or _empty()))
        try:
            yield machine
        finally:
            machine.close()


@contextmanager
def empty_cache() -> Iterator[Path]:
    """An empty cache, and nobody who uses it."""
    with _scratch() as folder, _undisturbed():
        yield _written(folder / "cache", _empty())


def picture(cache: Path) -> dict[str, bytes]:
    """What is in a cache directory, so that it can be made again; hosts may be using it."""
    files = (path for path in cache.rglob("*") if path.is_file() and path.suffix != ".db-shm")
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


@contextmanager
def _scratch() -> Iterator[Path]:
    """A real directory, in memory where there is one: thousands of runs sync their files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="simulated-", dir=memory) as folder:
        yield Path(folder)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nothing from outside have a say: no garbage collection, no settings of logging.

    Counting references then frees what is dropped, in every replay at the same moment.
    """
    logger = logging.getLogger("registry")
    gc.freeze()  # what is there already need not be looked through after each run
    gc.disable()
    logger.disabled, before = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = before
        gc.collect()
        gc.enable()
        gc.unfreeze()


@cache
def _empty() -> dict[str, bytes]:
    with _scratch() as folder:
        cache = open_cache(folder / "cache")
        with closing(connect(database_path(cache))) as connection:  # maintained just now
            connection.execute("UPDATE maintenance SET last_done = ?", (Clock.wall,))
        return picture(cache)


def _written(cache: Path, contents: Mapping[str, bytes]) -> Path:
    for name in ("", *FOLDERS):
        os.mkdir(cache / name, 0o700)
    for name, data in contents.items():
        (cache / name).write_bytes(data)
    return cache
