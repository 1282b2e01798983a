"""What happens in a job process: it holds itself to its limits, calls the backend, and reports.

A job process is forked from its worker and never returns. It works in a scratch folder, and has
one end of a pipe for a single frame: the report. It has no other way to be heard. What it prints
goes elsewhere, so nothing that a backend does on stdout can be taken for a report.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path

from registry.blame import is_own_bug
from registry.confinement.cgroup import Group
from registry.errors import (
    CodeTooLarge,
    ExecutionError,
    InternalError,
    InvalidCandidate,
    PossiblyInvalid,
    PrepareError,
)
from registry.host import wire
from registry.host.backend import Backend
from registry.host.kinds import Kind
from registry.host.messages import (
    OF_THE_BACKEND,
    OF_THE_HOST,
    REPLY_LIMIT,
    Reply,
    Task,
    legible,
)
from registry.host.worker.confinement import Enclosure, enclose
from registry.host.worker.process import die_with_parent
from registry.shortage import is_shortage

__all__ = ["ARTIFACT", "PREPARED", "SCRATCH", "Room", "Trade", "run"]

# In the worker's folder: what a job executes, what it has prepared, and where it may scribble.
ARTIFACT = "artifact"
PREPARED = "prepared"
SCRATCH = "scratch"

# What confinement answers, or the rights of this host's user; another host may have other ones.
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EXDEV})
# Made beforehand: once memory has run out there may be none left to make it.
_OUT_OF_MEMORY = wire.frame(
    Reply.failed(Kind.OUT_OF_MEMORY, "the job asked for more memory than it may have").to_wire()
)
# What a reply says besides the result, in bytes.
_ROOM_FOR_THE_REST = 1024


@dataclass(frozen=True, slots=True)
class Trade:
    """What a worker has for all its jobs: the backend, and what they may reach of the machine.

    `enclosure` is None where they are not confined, `group` where none can be made.
    """

    backend: Backend
    enclosure: Enclosure | None = None
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker gives its job: its folder, a pipe for the report, a pipe for all else."""

    folder: Path
    report: int
    output: int


def run(task: Task, trade: Trade, room: Room, worker: int) -> None:
    """Do the task and report; the caller then always ends the process."""
    die_with_parent(worker, signal.SIGKILL)
    if trade.group is not None:
        trade.group.join()
    os.setpgid(0, 0)  # a signal that the job sends to its own group must not meet the worker
    for signum in (signal.SIGTERM, signal.SIGINT):  # by which others end it, and not the backend
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.dup2(room.output, 1)
    os.dup2(room.output, 2)
    os.close(room.output)
    os.chdir(room.folder / SCRATCH)
    task.limits.impose()
    _write(room.report, _report(task, trade, room.folder))


def _report(task: Task, trade: Trade, folder: Path) -> bytes:
    try:
        return wire.frame(_attempt(task, trade, folder).to_wire())
    except MemoryError:
        return _OUT_OF_MEMORY


def _attempt(task: Task, trade: Trade, folder: Path) -> Reply:
    # A preparation leaves the artifact beside its scratch folder; an execution finds it there, and
    # it is everybody's.
    work, own = (_prepare, folder) if task.verb == "prepare" else (_execute, folder / SCRATCH)
    if trade.enclosure is not None:
        try:
            enclose(trade.enclosure, readable=folder, writable=own)
        except OSError as error:
            return Reply.failed(Kind.KERNEL, f"the job could not be confined: {error}")
    try:
        return work(task, trade.backend, folder)
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001  # SystemExit too is an answer to report
        if is_shortage(error) and not _is_refused(error, trade):
            fault = OF_THE_HOST if task.verb == "prepare" else InternalError.__name__
            return Reply.failed(Kind.IO_ERR, _text(error), fault)
        if task.verb == "prepare" and is_own_bug(error):
            return Reply.failed(Kind.JOB_ERROR, _text(error), OF_THE_HOST)
        return Reply.failed(Kind.JOB_ERROR, _text(error))


def _prepare(task: Task, backend: Backend, folder: Path) -> Reply:
    try:
        data = backend.prepare(task.payload, json.loads(task.params))
    except PrepareError as error:
        fault = OF_THE_BACKEND if error.remembered else OF_THE_HOST
        kind, said = legible(str(error.kind)), legible(str(error))
        return Reply(kind, said, bool(error.deterministic), fault)
    except CodeTooLarge as error:
        return Reply(Kind.CODE_TOO_LARGE, legible(str(error)), fault=CodeTooLarge.__name__)
    except OSError as error:
        kind = Kind.OUT_OF_MEMORY if error.errno == errno.ENOMEM else Kind.IO_ERR
        blameless = is_shortage(error) or error.errno in _FORBIDDEN
        return Reply.failed(kind, _text(error), OF_THE_HOST if blameless else "")
    wrong = _no_artifact(data)
    if wrong is not None:
        return Reply.failed(Kind.JOB_ERROR, wrong, OF_THE_HOST)
    return _keep(data, folder / PREPARED)


def _no_artifact(made: object) -> str | None:
    """Say what is wrong with what a backend prepared: a bug of the backend."""
    if not isinstance(made, bytes | bytearray | memoryview):
        return f"TypeError: prepare returns bytes, not {type(made).__name__}"
    return None if memoryview(made).nbytes else "ValueError: prepare returned no bytes at all"


def _keep(data: bytes | bytearray | memoryview, path: Path) -> Reply:
    try:
        file = open(path, "xb", buffering=0)  # noqa: SIM115  # the two errors are told apart
    except OSError as error:
        return Reply.failed(Kind.CREATE_TMP_FILE, _text(error))
    try:
        with file:
            _write(file.fileno(), data)
    except OSError as error:  # the disk's, and never the code's
        return Reply.failed(Kind.IO_ERR, _text(error), OF_THE_HOST)
    return Reply()


def _execute(task: Task, backend: Backend, folder: Path) -> Reply:
    request = wire.unpack(task.payload)
    try:
        result = backend.execute(folder / ARTIFACT, request)
    except ExecutionError as error:
        return Reply(legible(str(error.kind)), legible(str(error)), fault=_fault(error))
    packed = wire.pack(result, "result")
    if len(packed) > REPLY_LIMIT - _ROOM_FOR_THE_REST:
        raise ValueError(f"the result has {len(packed)} bytes; {REPLY_LIMIT} is the limit")
    return Reply(result=packed)


def _fault(error: ExecutionError) -> str:
    faults = (InvalidCandidate, PossiblyInvalid, InternalError)
    return next((fault.__name__ for fault in faults if isinstance(error, fault)), "")


def _is_refused(error: BaseException, trade: Trade) -> bool:
    # The mounts of a confined job are read-only, which says nothing about the disk.
    in_namespaces = trade.enclosure is not None and trade.enclosure.means.namespaces
    return in_namespaces and isinstance(error, OSError) and error.errno == errno.EROFS


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        # The mounts of a confined job refuse before Landlock is asked: a refusal all the same.
        error = PermissionError(*error.args[:2], error.filename)
    return "".join(traceback.format_exception_only(error)).strip()


def _write(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
