"""What Linux offers to a process that must leave nothing behind.

A worker can be killed at any moment, a job can fork and daemonise, a host can vanish. These means
together see to it that nothing of theirs keeps running:

-   **A worker in namespaces is their init**, and one that can make a control group has its jobs in
    it: either ends all that a job has started in one step, however fast that forks.

-   **A worker adopts orphans** (PR_SET_CHILD_SUBREAPER): all that a job starts, however often it
    forks, stays a descendant of the worker. The worker kills them all after each job.
-   **The death of the parent is a signal** (PR_SET_PDEATHSIG): SIGKILL for a job; SIGTERM for a
    worker, which takes it for a hang-up and kills its descendants before it goes. The kernel
    sends it when the parent's *thread* ends that made the process. For a job that is the worker's
    only one; for a worker it is the thread of the event loop, which no worker may outlive anyway.
-   **Each worker is a session of its own, and has an environment of its own**, so that what a
    worker left behind that was killed from outside can still be told. Only a process that left
    both on purpose is missed.

Besides, the worker's socket reads end-of-file when the host is gone, even if no signal comes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from registry.confinement import namespaces
from registry.confinement.cgroup import Group

__all__ = [
    "adopt_orphans",
    "cpu_seconds",
    "die_with_parent",
    "enter_namespaces",
    "forgo_privileges",
    "kill_offspring",
    "reap_offspring",
]

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# Looks at the process table until it shows nothing more to kill. Two are enough for a tree that
# does not grow; a fork bomb may win the race for longer, but a host must not be held up for ever.
_ROUNDS = 50

# The number of a parent that is in another namespace.
_OUTSIDE = 0
_INIT = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, signum: signal.Signals) -> None:
    """Have the kernel send this signal when the parent ends; if it has ended, exit at once."""
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def enter_namespaces() -> None:
    """Go on as the first process of namespaces of our own, which ends them; raises `OSError`.

    The process that was started waits for this one, and takes it along if it is killed.
    """
    namespaces.enter()
    die_with_parent(_OUTSIDE, signal.SIGKILL)


def forgo_privileges() -> None:
    """Let no program that this process or its descendants start gain privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def cpu_seconds(pid: int) -> float:
    """Tell the CPU time of all threads of a process that is not reaped yet."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid() composes it


def reap_offspring(group: Group | None = None) -> float:
    """Kill all descendants of this process, wait for them, and tell the CPU time they used.

    `group` is one in which they are.
    """
    used = 0.0
    if group is not None:
        group.kill()
    if os.getpid() == _INIT:
        # All that there are, in one step of the kernel: none can fork meanwhile and be missed.
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                for child in _children():
                    _kill(child)
                _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return used
        used += usage.ru_utime + usage.ru_stime


def _children() -> list[int]:
    # Of a process with one thread. A short list is read before one that forks on has gone again;
    # the whole table, where the kernel keeps no list, is not.
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb") as children:
            return [int(child) for child in children.read().split()]
    except OSError:
        return [entry.pid for entry in _table() if entry.parent == own]


def kill_offspring(worker: int, mark: str) -> None:
    """Kill all descendants of a worker, alive or not, and of its jobs; not the worker.

    `mark` is what only these have in their environment, "NAME=value".
    """
    for _ in range(_ROUNDS):
        victims = _offspring(worker, mark.encode())
        if not victims:
            return
        for victim in victims:
            _kill(victim)


@dataclass(frozen=True, slots=True)
class _Entry:
    pid: int
    state: str
    parent: int
    session: int


def _offspring(worker: int, mark: bytes) -> list[int]:
    living = [entry for entry in _table() if entry.state not in "ZX"]
    family = _family(worker, living)
    return [
        entry.pid
        for entry in living
        if entry.pid != worker and (entry.pid in family or _is_marked(entry.pid, mark))
    ]


def _family(worker: int, living: list[_Entry]) -> set[int]:
    if any(entry.pid == worker and entry.parent != os.getpid() for entry in living):
        # The number is another process's by now, which can only be once its session was empty.
        return set()
    family = {worker} | {entry.pid for entry in living if entry.session == worker}
    while more := {entry.pid for entry in living if entry.parent in family} - family:
        family |= more
    return family


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            return mark in environment.read().split(b"\0")
    except OSError:  # gone, or not ours
        return False


def _table() -> Iterator[_Entry]:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                text = stat.read()
        except OSError:  # gone meanwhile
            continue
        state, parent, _group, session = text[text.rindex(b")") + 2 :].split()[:4]
        yield _Entry(int(name), state.decode(), int(parent), int(session))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    nothing = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(argument), nothing, nothing, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"prctl({option})")
