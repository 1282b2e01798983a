"""What the stories about workers share: how they are told, how jobs are met, what may be left."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import select
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from registry.artifact import ArtifactId

ROGUE = "host.backends.rogue"
ECHO = "host.backends.echo"
# Long enough for a job that does nothing, on a machine that does much else.
AMPLE = timedelta(seconds=20)


def story(tell: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let a test be a coroutine function."""

    @functools.wraps(tell)
    def told(*args: Any, **kwargs: Any) -> None:
        asyncio.run(tell(*args, **kwargs))

    return told


def wish(do: str, **more: Any) -> bytes:
    """Code that has the rogue backend do something."""
    return json.dumps({"do": do, **more}).encode()


def named(code: bytes) -> ArtifactId:
    return ArtifactId.of(code)


@dataclass
class Guest:
    """A job that came to the meeting and waits."""

    pid: int
    worker: int
    writer: asyncio.StreamWriter

    def dismiss(self) -> None:
        self.writer.write(b".")
        self.writer.close()


class Meeting:
    """Where jobs come and wait for a word, so that a test knows where they are."""

    def __init__(self, at: str) -> None:
        self.at = at
        self._guests: asyncio.Queue[Guest] = asyncio.Queue()
        self._hosting: list[asyncio.Task[Any]] = []

    def empty(self) -> bool:
        return self._guests.empty()

    async def guest(self) -> Guest:
        return await self._guests.get()

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hosting.append(asyncio.current_task())
        pid, worker = (await reader.readline()).split()
        self._guests.put_nowait(Guest(int(pid), int(worker), writer))
        await reader.read()  # until it is gone
        writer.close()

    async def end(self) -> None:
        """Wait until all who came have gone."""
        await asyncio.gather(*self._hosting)


@asynccontextmanager
async def meeting() -> AsyncIterator[Meeting]:
    with tempfile.TemporaryDirectory(prefix="m") as folder:  # a socket's name must be short
        held = Meeting(f"{folder}/at")
        async with await asyncio.start_unix_server(held.receive, held.at):
            yield held
            await held.end()


def running_in(folder: Path) -> list[int]:
    """The living processes that were started to work in this folder, and all they started."""
    mark = f"TMPDIR={folder}".encode()
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _marked(name, mark)]


def _marked(name: str, mark: bytes) -> bool:
    try:
        with open(f"/proc/{name}/environ", "rb") as environ:
            return mark in environ.read()  # a zombie has none
    except OSError:
        return False


def await_the_end_of(pids: list[int]) -> None:
    """Wait until killed processes are gone; fails for one that lives on."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([descriptor], [], [], 10)
            assert ended, f"process {pid} runs on"
        finally:
            os.close(descriptor)
