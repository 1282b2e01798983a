"""Run a function as another user, in a process of its own: root passes every permission check."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["NOBODY", "as_nobody", "open_to_all"]

NOBODY = 65534


def as_nobody(function: Callable[[], object], user: int = NOBODY) -> str:
    """Answer what the function gives, or the name and the text of what it raises."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            said = str(function())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode(errors="backslashreplace")[:4000])
        os._exit(0)
    os.close(theirs)
    with open(mine, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@contextmanager
def open_to_all() -> Iterator[Path]:
    """Make a folder that every user can enter and read, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="registry-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
