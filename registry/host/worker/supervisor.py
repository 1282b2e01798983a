"""The worker process: it imports the backend once, and then forks a job process for each task.

It does nothing dangerous itself, so it survives what its jobs do, and after each job it kills
what the job left running and empties its folder. It ends when the host hangs up, when the host
dies, or when it could not clear up after a job, for the next one must not see what is there.

Its state is plain: waiting for a task, or watching one job. See `messages` for what is said, and
`process` for how nothing is left behind.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

from registry.confinement import cgroup
from registry.confinement.cgroup import Group
from registry.host import wire
from registry.host.backend import load, preload
from registry.host.kinds import Kind
from registry.host.messages import BROKEN, FATAL, READY, TAKEN, TASK_LIMIT, UP, Reply, Task, legible
from registry.host.worker.confinement import Confinement, from_wire
from registry.host.worker.job import ARTIFACT, PREPARED, SCRATCH, Trade
from registry.host.worker.job_process import HostGone, fork_job
from registry.host.worker.process import (
    adopt_orphans,
    die_with_parent,
    enter_namespaces,
    forgo_privileges,
    reap_offspring,
)
from registry.host.worker.verdict import verdict
from registry.world.removal import empty

__all__ = ["main"]

# What the kernel says that has nothing left to give.
_NO_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def main(descriptor: int, host: int, backend: str, confinement: str) -> None:
    """Work for the process `host`, over the socket `descriptor`, in the current directory."""
    die_with_parent(host, signal.SIGTERM)
    confined = from_wire(confinement)
    group = cgroup.make()  # before anything is read-only for us
    if confined is not None and confined.means.namespaces:
        enter_namespaces()
    adopt_orphans()
    forgo_privileges()
    os.umask(0o077)
    with socket.socket(fileno=descriptor) as peer, suppress(EOFError, OSError, HostGone):
        try:
            _work(peer, backend, confined, group)
        finally:
            reap_offspring(group)
            if group is not None:
                group.remove()


def _work(
    peer: socket.socket, backend: str, confinement: Confinement | None, group: Group | None
) -> None:
    _say(peer, UP)
    _go_quiet()
    try:
        trade = _learn(backend, confinement, group)
    except BaseException as error:  # noqa: BLE001  # SystemExit too must be told to the host
        _say(peer, [BROKEN, legible("".join(traceback.format_exception_only(error)).strip())])
        return
    _hang_up_with_the_host(peer)
    _say(peer, READY)
    gc.freeze()  # what is here now is shared with every job, unless the collector touches it
    folder = Path.cwd()
    serving = True
    while serving:
        task = Task.from_wire(wire.receive(peer, TASK_LIMIT))
        _say(peer, TAKEN)
        reply = _do(task, trade, folder, peer)
        serving = reply.kind not in FATAL
        _say(peer, reply.to_wire())


def _learn(backend: str, confinement: Confinement | None, group: Group | None) -> Trade:
    loaded = load(backend)
    preload(loaded)
    if confinement is None:
        return Trade(loaded, group=group)
    enclosure = confinement._enclosure()  # it looks at the folders as they are now  # noqa: SLF001
    confinement._seal(Path.cwd())  # noqa: SLF001
    return Trade(loaded, enclosure, group)


def _do(task: Task, trade: Trade, folder: Path, peer: socket.socket) -> Reply:
    try:
        empty(folder, keep=() if task.verb == "prepare" else (ARTIFACT,))
        (folder / SCRATCH).mkdir(mode=0o700)
    except OSError as error:
        kind = Kind.KERNEL if error.errno in _NO_MEANS else Kind.CREATE_TMP_FILE
        return Reply.failed(kind, f"there is no place for the job: {error}")
    try:
        running = fork_job(task, trade, folder, peer)
    except OSError as error:
        reap_offspring(trade.group)
        return Reply.failed(Kind.KERNEL, f"the job could not be started: {error}")
    reply = verdict(running.watch(peer, task.limits), task.limits)
    made = task.verb == "prepare" and reply.kind is None
    try:
        empty(folder, keep=(PREPARED,) if made else ())
    except OSError as error:
        return Reply.failed(Kind.CLEAR_WORKER_DIR, f"the job's folder would not empty: {error}")
    return reply


def _go_quiet() -> None:
    # Until here an early death could explain itself in the file that stderr is; from here on it
    # is said over the socket.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _hang_up_with_the_host(peer: socket.socket) -> None:
    # Another process may hold a copy of the host's end of the socket, so that its death alone would
    # not be heard. And nothing is raised here, where it could interrupt the clearing up.
    def hang_up(_signum: int, _frame: FrameType | None) -> None:
        with suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)

    signal.signal(signal.SIGTERM, hang_up)


def _say(peer: socket.socket, message: object) -> None:
    peer.sendall(wire.frame(message))
