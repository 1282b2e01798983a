"""Control groups (version 2), by which a worker kills and counts all that its job has started.

A worker makes a group of its own beneath the one it is in, where that is allowed: mostly to root,
and to services with `Delegate=yes`. Its jobs join it. Then the kernel ends all of them in one step,
however fast they fork, and counts the CPU time of all, even of children whose end nobody waits for.

A job notices nothing of that, so there is no reason to do without. No controller is used: memory
and numbers of processes are bounded by the group in which the host itself is, if by any.

A group is its worker's as long as that holds a lock on it. One that is left by a worker that was
killed is emptied and removed by `sweep`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator

__all__ = ["Group", "can_make", "left", "make", "sweep"]

_PREFIX = "registry-"
# What is met by one whose new group is swept by another process, before it is locked.
_SWEPT = frozenset({errno.EWOULDBLOCK, errno.ENOENT, errno.ENODEV})
_TRIES = 100
# The fields of /proc/self/mountinfo: what of the file system is mounted, and where.
_MOUNTED = re.compile(r"^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 ", re.MULTILINE)


class Group:
    """A group that this process has made and locked."""

    def __init__(self, parent: str, name: str) -> None:
        """Make it; raises `OSError`."""
        self._name = name
        self._opened: list[int] = []
        self._kill: int | None = None
        self._parent = self._open(parent, os.O_DIRECTORY)
        os.mkdir(name, 0o700, dir_fd=self._parent)
        try:
            folder = self._open(name, os.O_DIRECTORY, self._parent)
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._processes = self._open("cgroup.procs", os.O_WRONLY, folder)
            self._kill = self._open("cgroup.kill", os.O_WRONLY, folder)
            self._usage = self._open("cpu.stat", os.O_RDONLY, folder)
        except OSError:
            self.remove()
            raise

    def join(self) -> None:
        """Put this process, just forked from the one that made the group, into it for good."""
        # Once removed by others, it is of no use to us, and no harm.
        with contextlib.suppress(OSError):
            os.write(self._processes, b"0")
        self._close()

    def kill(self) -> None:
        """Kill all that is in it."""
        if self._kill is not None:
            with contextlib.suppress(OSError):
                os.write(self._kill, b"1")

    def cpu_seconds(self) -> float:
        """Tell the CPU time of all that has ever been in it."""
        try:
            said = os.pread(self._usage, 1024, 0)
        except OSError:
            return 0.0
        return int(said.split(b"\n", 1)[0].split()[1]) / 1e6

    def remove(self) -> None:
        """Kill what is in it, and remove it, unless something has not gone yet."""
        self.kill()
        with contextlib.suppress(OSError):
            os.rmdir(self._name, dir_fd=self._parent)
        self._close()

    def _open(self, path: str, flags: int, folder: int | None = None) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, dir_fd=folder)
        self._opened.append(descriptor)
        return descriptor

    def _close(self) -> None:
        for descriptor in self._opened:
            os.close(descriptor)
        self._opened.clear()
        self._kill = None


def make() -> Group | None:
    """Make a group beneath that of this process; None where it cannot be made."""
    parent = _own_group()
    if parent is None:
        return None
    for _ in range(_TRIES):
        try:
            return Group(parent, _PREFIX + secrets.token_hex(8))
        except OSError as error:
            if error.errno not in _SWEPT:
                return None
    return None


def can_make() -> bool:
    """Try whether a group can be made here."""
    group = make()
    if group is not None:
        group.remove()
    return group is not None


def sweep() -> None:
    """Empty and remove what workers that were killed have left beneath the group we are in."""
    for path in left():
        with contextlib.suppress(OSError):
            _remove_unlocked(path)


def left() -> Iterator[str]:
    """List the groups of workers, alive or not, beneath the group we are in."""
    parent = _own_group()
    if parent is None:
        return
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                yield entry.path


def _remove_unlocked(path: str) -> None:
    folder = os.open(path, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(f"{path}/cgroup.kill", "w") as kill:
            kill.write("1")
        os.rmdir(path)  # fails if what was killed has not gone yet; there will be another sweep
    finally:
        os.close(folder)


def _own_group() -> str | None:
    try:
        with open("/proc/self/cgroup") as file:
            own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        with open("/proc/self/mountinfo") as file:
            root, place = _MOUNTED.findall(file.read())[0]
    except (OSError, StopIteration, IndexError):
        return None
    if os.path.commonpath([own, root]) != root:  # mounted for another
        return None
    return os.path.normpath(os.path.join(place, os.path.relpath(own, root)))
