"""Files for wasmtime to open by name; the names refer to our descriptors.

What a module reads and writes is held in anonymous files in memory. wasmtime could also call back
into Python with what was written, but does so from a thread of its own; measured, such a call
during the interpreter's end aborts the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Streams", "name_of"]


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a module's captured streams are held while it runs."""

    stdin: BinaryIO
    stdout: BinaryIO
    stderr: BinaryIO

    @classmethod
    @contextmanager
    def holding(cls, stdin: bytes) -> Iterator[Streams]:
        """Open all three, the first with this to be read, until the end of the context."""
        with ExitStack() as stack:
            streams = cls(*(stack.enter_context(_in_memory(name)) for name in cls.__slots__))
            streams.stdin.write(stdin)
            streams.stdin.flush()
            yield streams

    def written(self) -> tuple[bytes, bytes]:
        """Give what has been written to standard output and standard error so far."""
        return _content(self.stdout), _content(self.stderr)


def name_of(file: BinaryIO) -> str:
    """Name an open file by a path that stays good when the file is renamed or unlinked."""
    return f"/proc/self/fd/{file.fileno()}"


def _in_memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name), "w+b")


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
