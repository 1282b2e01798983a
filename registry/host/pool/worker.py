"""One worker process, seen from its host: spawned, given one task at a time, and removed.

The process is told everything by its command line and its socket, and inherits nothing: no
environment, no other descriptor, no standard stream, no terminal; only our import path, so that it
finds what we found. It works in a folder of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from registry.confinement.cgroup import sweep
from registry.host import wire
from registry.host.kinds import Kind
from registry.host.messages import FATAL, REPLY_LIMIT, TAKEN, UP, Reply, Task, legible
from registry.host.worker.confinement import Confinement, to_wire
from registry.host.worker.job import SCRATCH
from registry.host.worker.process import kill_offspring
from registry.world.removal import remove
from registry.world.shield import in_thread, unbroken

__all__ = ["LOAD_TIMEOUT", "SPAWN_TIMEOUT", "NoWorker", "SpawnFailed", "Worker", "WorkerLost"]

# Seconds. An interpreter starts in a tenth of one; but on a cold disk, or with hooks in its
# site-packages, in many more, and would take as many the next time.
SPAWN_TIMEOUT = 60.0
# Seconds. Importing a compiler can take its time on a cold disk, and would take it again.
LOAD_TIMEOUT = 60.0

_MAIN = """\
import sys
descriptor, host, backend, confinement, *sys.path = sys.argv[1:]
from registry.host.worker.supervisor import main
main(int(descriptor), int(host), backend, confinement)
"""
# In the worker's folder until it is up: what it has to say if it does not come up.
_STDERR = "stderr"
_LAST_WORDS = 2000
# Bytes that a worker may send unread; one that sends more waits.
_FRAMES = 8

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SpawnFailed(Exception):
    """The worker process did not come up; another one may."""


class WorkerLost(Exception):
    """The worker died before it received its task, which is as it was."""

    kind = Kind.IO_ERR


class NoWorker(WorkerLost):
    """No worker could be started, in several tries."""

    kind = Kind.WORKER_NOT_STARTED


class Worker:
    """A worker process; `alive` until it dies, cannot be trusted any more, or is removed.

    `gone` is done as soon as the process is heard to have ended, be it idle.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, streams: _Streams, folder: Path
    ) -> None:
        self.folder = folder
        self.alive = True
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process = process
        self._handle = _handle(process.pid)
        self._reader, self._writer = streams
        self._heard: asyncio.Queue[object] = asyncio.Queue(_FRAMES)
        self._listener = asyncio.create_task(self._listen())
        self._broken: str | None = None

    @classmethod
    async def spawn(
        cls,
        backend: str,
        folder: Path,
        confinement: Confinement | None = None,
        start_timeout: float | None = None,
    ) -> Worker:
        """Start a process that works in `folder`, which is made, and have it load the backend.

        Raises `SpawnFailed` or `OSError`. A backend that cannot be loaded is no reason to: each
        task will say so. Nor is a worker that is killed meanwhile: it has no task yet to fail.
        """
        os.mkdir(folder, mode=0o700)
        try:
            process, streams = await _start(folder, backend, to_wire(confinement))
        except BaseException:
            _remove_unused(folder)
            raise
        worker = cls(process, streams, folder)
        try:
            await worker._come_up(SPAWN_TIMEOUT if start_timeout is None else start_timeout)
            await worker._load()
        except BaseException:
            await worker.bury()
            raise
        return worker

    async def do(self, task: Task) -> Reply:
        """Have a task done; raises `WorkerLost` if the worker died before it had all of it.

        Answers within the wall-clock limit. Not to be called again before it has returned.
        """
        if self._broken is not None:
            self.alive = False
            return Reply.failed(Kind.RUNTIME_CONSTRUCTION, self._broken)
        reply = await self._answer(task)
        if not self.alive:
            await unbroken(self._kill())
        if reply is None:
            raise WorkerLost(f"worker {self._process.pid} died before it had its task")
        return reply

    async def bury(self) -> None:
        """Kill the process and its descendants, wait for its end and remove its folder.

        Safe to repeat. A cancellation meanwhile is raised once that is done.
        """
        self.alive = False
        self._listener.cancel()
        self._writer.close()
        await unbroken(self._clear())

    async def _answer(self, task: Task) -> Reply | None:
        exchange = asyncio.create_task(self._exchange(task))
        try:
            # In two spans, for it may be our own event loop that is late: then the answer has
            # come, and the loop needs one more turn to see it.
            for span in task.limits.spans:
                await asyncio.wait([exchange], timeout=span)
            if exchange.done():
                return exchange.result()
        finally:
            exchange.cancel()
        self.alive = False
        return Reply.failed(Kind.TIMED_OUT, f"no answer within {task.limits.wall:g} s")

    async def _exchange(self, task: Task) -> Reply | None:
        taken = False
        try:
            self._writer.write(wire.frame(task.to_wire()))
            await self._writer.drain()
            taken = await self._hear() == TAKEN
            reply = Reply.from_wire(await self._hear())
        except (EOFError, OSError, ValueError, MemoryError):
            self.alive = False
            died = Reply.failed(Kind.WORKER_DIED, f"worker {self._process.pid} died at its task")
            return died if taken else None
        self.alive = reply.kind not in FATAL
        return reply

    async def _kill(self) -> None:
        # In a thread, for it looks through all processes of the machine.
        await in_thread(self._kill_with_offspring)

    def _kill_with_offspring(self) -> None:
        mark = _mark(self.folder)
        try:
            kill_offspring(self._process.pid, mark)
        finally:
            if self._handle is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        kill_offspring(self._process.pid, mark)

    async def _clear(self) -> None:
        try:
            await self._kill()
        finally:
            await self._process.wait()
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
        await in_thread(partial(remove, self.folder))
        await in_thread(sweep)

    async def _come_up(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                up, how = await self._hear() == UP, "said what no worker says"
        except TimeoutError:
            up, how = False, f"did not come up within {patience:g} s"
        except EOFError:
            up, how = False, "ended before it was up"
        words = self.folder / _STDERR
        if not up:
            said = _end_of(words)
            raise SpawnFailed(f"a worker {how}; it said: {said or 'nothing'}")
        words.unlink()

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT):
                reason = await self._reason()
        except TimeoutError:
            reason = f"that took over {LOAD_TIMEOUT:g} s"
        if reason is not None:
            self._broken = f"the backend could not be loaded: {reason}"

    async def _reason(self) -> str | None:
        """Return why the backend cannot be loaded; None if it can, or was killed."""
        try:
            match await self._hear():
                case [_, reason]:
                    return legible(str(reason))
        except (EOFError, OSError):
            status = await self._process.wait()
            return None if status < 0 else f"it ended the process with status {status}"
        return None

    async def _hear(self) -> object:
        heard = await self._heard.get()
        if isinstance(heard, Exception):
            self._heard.put_nowait(heard)  # it will not say anything else
            raise heard
        return heard

    async def _listen(self) -> None:
        try:
            while True:
                await self._heard.put(await wire.read(self._reader, REPLY_LIMIT))
        except (EOFError, OSError, ValueError, MemoryError) as error:
            await self._heard.put(error)
            self.gone.set_result(None)


async def _start(folder: Path, *orders: str) -> tuple[asyncio.subprocess.Process, _Streams]:
    with _last_words(folder) as words:
        ours, theirs = socket.socketpair()
        with theirs:
            streams = await asyncio.open_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-c", _MAIN),
                    *(str(theirs.fileno()), str(os.getpid()), *orders, *_import_path()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    cwd=folder,
                    env=dict([_mark(folder).split("=", 1)]),
                )
            except BaseException:
                streams[1].close()
                raise
    return process, streams


def _remove_unused(folder: Path) -> None:
    # Without a descriptor, for there may be none.
    with suppress(OSError):
        (folder / _STDERR).unlink(missing_ok=True)
        folder.rmdir()


def _end_of(words: Path) -> str:
    with open(words, "rb") as file:
        file.seek(-min(_LAST_WORDS, words.stat().st_size), os.SEEK_END)
        return file.read().decode(errors="replace").strip()


def _handle(pid: int) -> int | None:
    # A name for the process that is never another's, unlike its number. Popen.kill() would take
    # care of that too, but reaps the process before asyncio can, which then warns of it.
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended, and been reaped
        return None


def _last_words(folder: Path) -> IO[bytes]:
    return open(folder / _STDERR, "xb")


def _mark(folder: Path) -> str:
    # All the environment that a worker and its jobs have; no other process has it.
    return f"TMPDIR={folder / SCRATCH}"


def _import_path() -> list[str]:
    # The empty entry means the current directory: ours, not the worker's.
    return [os.path.abspath(entry) for entry in sys.path]
