"""Prepare several files at once, each in a process of its own that runs this command.

So a signal stops each as it stops a single one: its claim is released, and nothing is recorded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryFile
from typing import IO, Any

__all__ = ["Ended", "prepare_at_once"]


@dataclass(frozen=True, slots=True)
class Ended:
    """What the process of one file gave: its exit code, its row, and its lines on stderr."""

    place: int
    code: int
    row: dict[str, Any] | None
    said: Sequence[dict[str, dict[str, str]]]


@dataclass(slots=True, eq=False)
class _Child:
    place: int
    line: Sequence[str]
    out: IO[bytes] = field(default_factory=TemporaryFile)
    err: IO[bytes] = field(default_factory=TemporaryFile)
    process: subprocess.Popen[bytes] = field(init=False)
    ends: int = field(init=False)

    def __post_init__(self) -> None:
        # In a group of its own: Ctrl-C in the terminal would reach it twice, and kill it.
        self.process = subprocess.Popen(
            self.line, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, process_group=0
        )
        self.ends = os.pidfd_open(self.process.pid)

    def leave(self) -> None:
        """Wait until it has released its claim."""
        self.process.wait()
        os.close(self.ends)
        self.out.close()
        self.err.close()

    def end(self) -> Ended:
        """Read what it gave."""
        code = self.process.wait()
        out, err = (_read(stream) for stream in (self.out, self.err))
        rows = json.loads(out) if out else [None]
        said = [json.loads(line) for line in err.splitlines() if line.startswith(b"{")]
        return Ended(self.place, code, rows[0], said)


def prepare_at_once(
    cache: Path, files: Sequence[Path], jobs: int, begin: Callable[[Path], None]
) -> Generator[Ended, None, None]:
    """Prepare the files, `jobs` at once, and tell of each when it has ended."""
    line = [sys.executable, "-P", "-m", "registry", "prepare", "--json", "--create"]
    waiting = enumerate(files)
    running: list[_Child] = []
    try:
        while True:
            for place, file in waiting:
                begin(file)
                running.append(_Child(place, [*line, "--cache", str(cache), "--", str(file)]))
                if len(running) == jobs:
                    break
            if not running:
                return
            ended = _first_ended(running)
            running.remove(ended)
            os.close(ended.ends)
            yield ended.end()
    finally:
        for child in running:
            child.process.terminate()
        for child in running:
            child.leave()


def _first_ended(running: Sequence[_Child]) -> _Child:
    with DefaultSelector() as selector:
        for child in running:
            selector.register(child.ends, EVENT_READ, child)
        ended: _Child = selector.select()[0][0].data
        return ended


def _read(stream: IO[bytes]) -> bytes:
    with stream:
        stream.seek(0)
        return stream.read()
