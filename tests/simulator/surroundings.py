"""What a run stands on: a fresh cache, made once by the product and copied, and peace."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from registry.opening import open_cache

from .machine import Machine

__all__ = ["fresh_cache", "scratch", "simulated"]

FOLDERS = ("artifacts", "hosts", "workers")
FILES = ("registry.db", "cache.id")


@contextmanager
def simulated() -> Iterator[Machine]:
    """A machine with an empty cache, to be stepped by hand."""
    with scratch() as folder, undisturbed():
        machine = Machine(fresh_cache(folder))
        try:
            yield machine
        finally:
            machine.close()


@contextmanager
def scratch() -> Iterator[Path]:
    """A real directory, in memory where there is one: thousands of runs sync their files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="simulated-", dir=memory) as folder:
        yield Path(folder)


def fresh_cache(folder: Path) -> Path:
    """Make an empty cache in a folder."""
    made = folder / "cache"
    for name in ("", *FOLDERS):
        os.mkdir(made / name, 0o700)
    for name, data in _template().items():
        (made / name).write_bytes(data)
    return made


@contextmanager
def undisturbed() -> Iterator[None]:
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
def _template() -> dict[str, bytes]:
    with scratch() as folder:
        opened = open_cache(folder / "cache")
        return {name: (opened / name).read_bytes() for name in FILES}
