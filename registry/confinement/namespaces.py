"""Namespaces: a worker that sees no process, network, IPC object or writable file but its own.

`enter` gives a process namespaces of its own for processes, network, System V IPC and mounts. A
user who is not root gets a user namespace besides, which is what allows the others; it keeps its
user id. What follows from each:

    processes   no process outside can be seen, signalled, traced or changed. The first one inside
                is an init: when it ends, the kernel kills all others, however fast they fork.
    network     there is none, not even a loopback device that is up
    IPC         shared memory, semaphores and queues end with the namespace
    mounts      a /proc of its own; and what `make_read_only` has made so, for us only

Whether the kernel, or what it runs in, allows that is known only by trying: see `why_not`.

This file is a script too, which tries it. So it imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable

__all__ = ["enter", "keep_read_only", "make_read_only", "why_not"]

# From <linux/sched.h> and <linux/mount.h>.
_NEW_MOUNTS = 0x00020000
_NEW_IPC = 0x08000000
_NEW_USER = 0x10000000
_NEW_PROCESSES = 0x20000000
_NEW_NETWORK = 0x40000000
_ALL = _NEW_MOUNTS | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK

_PROC_FLAGS = 0x2 | 0x4 | 0x8  # no set-user-id, no devices, no programs
_BIND = 0x1000
_RECURSIVE = 0x4000
_PRIVATE = 1 << 18

# The same number on every common architecture.
_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_READ_ONLY = 0x1

_PROBE_TIMEOUT = 10.0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


@functools.cache
def why_not() -> str:
    """Return why no namespaces can be created here, or an empty string. Tries it once."""
    line = [sys.executable, "-I", "-S", __file__]
    try:
        tried = subprocess.run(
            line, capture_output=True, text=True, timeout=_PROBE_TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"it could not be tried: {error}"
    if tried.returncode == 0:
        return ""
    said = tried.stderr.strip().splitlines()
    return said[-1] if said else f"the trial ended with status {tried.returncode}"


def enter() -> None:
    """Go on in a new process, the first one of its own namespaces; raises `OSError`.

    This process stays outside, waits for the new one and ends as that does. It must have one thread
    only, and keeps no descriptor open. If it is killed, so is all that is inside.
    """
    _unshare()
    inside = os.fork()
    if inside:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _end_like(inside)
    _mount("proc", "/proc", "proc", _PROC_FLAGS)


def make_read_only(writable: Iterable[str]) -> None:
    """Make all that is mounted read-only for this process, but for these paths; raises `OSError`.

    Names, contents, modes, times and attributes are then as they are. Devices can be written to.
    """
    kept = list(writable)
    for path in kept:
        _mount(path, path, "", _BIND)
    _set_attributes("/", set_=_READ_ONLY, flags=_AT_RECURSIVE)
    for path in kept:
        _set_attributes(path, clear=_READ_ONLY)


def keep_read_only(folder: str, *, but: str) -> None:
    """Make a folder read-only for this process alone, but for one within it; raises `OSError`.

    `folder` is one of those that `make_read_only` left writable.
    """
    _unshare_these(_NEW_MOUNTS)
    _mount(but, but, "", _BIND)
    _set_attributes(folder, set_=_READ_ONLY)


def _unshare() -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        _unshare_these(_ALL)
    except OSError:  # only root may do that; anyone may in a user namespace, if it is allowed
        _unshare_these(_ALL | _NEW_USER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)


def _end_like(child: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 1)


def _unshare_these(namespaces: int) -> None:
    _check(_libc.unshare(namespaces), "unshare")


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    names = (os.fsencode(source), os.fsencode(target), os.fsencode(kind))
    _check(_libc.mount(*names, ctypes.c_ulong(flags), None), f"mount {target}")


def _set_attributes(path: str, *, set_: int = 0, clear: int = 0, flags: int = 0) -> None:
    wanted = _Attributes(set_, clear, 0, 0)
    answer = _libc.syscall(
        *(ctypes.c_long(_MOUNT_SETATTR), ctypes.c_long(_AT_FDCWD), os.fsencode(path)),
        *(ctypes.c_long(flags), ctypes.byref(wanted), ctypes.c_long(ctypes.sizeof(wanted))),
    )
    _check(answer, f"mount_setattr {path}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _check(answer: int, what: str) -> None:
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


if __name__ == "__main__":
    try:
        enter()
        make_read_only([])
        keep_read_only("/proc", but="/proc")
    except OSError as failure:
        sys.exit(f"no namespaces can be made: {failure.strerror} {failure.filename or ''}".strip())
