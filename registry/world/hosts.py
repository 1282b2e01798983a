"""Who is alive: the kernel knows.

WAL needs all processes on one machine already, so a file lock is as strong as SQLite's own
assumption; no heartbeat, no pid and no clock is needed. An open handle holds `flock(LOCK_EX)` on
`hosts/<its id>.lock`. However its process ends, the kernel lets go of the lock. Ids are random and
never used twice, so dead is final.

A host that is still opening the cache says so by the mode of its lock file: it has read and written
no more than it had to, and either enters or leaves again in a moment. Who wants the cache for
himself waits for it, and is refused only by those that have entered.

A lock file that is there and unlocked proves a death. One that is gone does not: some program that
clears up old files may have removed it, or all of `hosts/`. So each host sees to its own at every
verb, and makes it anew. Until then, while its code prepares something for an hour say, it counts as
alive for as long as its process runs; where the process cannot be looked for (another hostname: a
container), as dead. A number that another process has by now costs a wait for the claim's deadline.
For the same reason a host that could not remove its row leaves its file behind, unlocked.

Only liveness depends on this. Safety never does: the token in the WHERE of each statement decides.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from registry.errors import CacheDirectoryRefused
from registry.log import about, logger
from registry.world import clock, fork
from registry.world.chance import token_hex
from registry.world.descriptor import Descriptor, Folder, open_raw
from registry.world.process import is_running
from registry.world.removal import remove

__all__ = ["HostLock", "Hosts", "Living", "living_hosts"]

_ID = re.compile(r"[0-9a-f]{32}")
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The modes of a lock file. One with a changed mode counts as entered, and so does one that
# an older version made.
_OPENING, _ENTERED = 0o400, 0o600
# How old a lock file's time may be; programs that delete old files wait for days at least.
TOUCH_EVERY_SECONDS = 3600
_UNNAMED = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class HostLock:
    """The lock that one living handle holds."""

    def __init__(self, host_id: str, place: str, file: FileIO) -> None:
        self.host_id = host_id
        self.place = place
        self.file = file
        self._entered = False
        self._key = _key(os.fstat(file.fileno()))

    def enter(self) -> None:
        """Say that this host has entered; where that cannot be said it counts as entered anyway."""
        self._entered = True
        with suppress(OSError):
            os.fchmod(self.file.fileno(), _ENTERED)

    def is_in_place(self) -> bool:
        """Whether the file that is locked has its name still; if it is old, it is young then."""
        try:
            found = os.lstat(self.place)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # that it cannot be looked at does not say that it is gone
        if _key(found) != self._key:
            return False
        if abs(clock.now() / 1e6 - found.st_mtime) > TOUCH_EVERY_SECONDS:
            with suppress(OSError, ValueError):  # closed, by another thread
                os.utime(self.file.fileno())
        return True

    def replace(self, file: FileIO) -> None:
        """Hold another file instead, which is locked."""
        with self.file:
            self.file = file
        self._key = _key(os.fstat(file.fileno()))
        if self._entered:
            self.enter()

    def close(self) -> None:
        """Let go: by closing, never by unlocking, for a forked copy shares the lock."""
        self.file.close()


class Hosts:
    """The folder `hosts/` of one cache."""

    def __init__(self, folder: Path) -> None:
        self._opened = Folder(folder)
        self._fd = self._opened.fd
        self._folder = folder
        self._workers = folder.parent / "workers"

    def close(self) -> None:
        self._opened.close()

    def register(self) -> HostLock:
        """Create and lock a file of our own, and prove that the lock refuses others."""
        while True:
            host_id = token_hex(16)
            file = self._locked_file(host_id)
            if file is not None:
                lock = HostLock(host_id, os.fspath(self._folder / f"{host_id}.lock"), file)
                self._prove(lock)
                return lock

    def register_and_leave(self) -> None:
        """Test that locks work here; raises `CacheDirectoryRefused`."""
        self.leave(self.register())

    def keep(self, lock: HostLock) -> None:
        """Check that our lock file exists, and create it again if it was removed; one lstat.

        The caller has seen that the cache is the one that was opened.
        """
        if lock.is_in_place():
            return
        try:
            with fork.opening():
                # Another thread may have been faster, or have closed the handle.
                wanted = not lock.file.closed and not lock.is_in_place()
                made = wanted and self._make_anew(lock)
        except OSError:
            return  # at the next verb again
        if made:
            logger.warning(
                "the lock file of this host was removed and created again: exempt %s "
                "from the program that cleans up there",
                self._folder,
                extra=about("lock_made_anew", place=lock.place),
            )

    def _make_anew(self, lock: HostLock) -> bool:
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
        folder = Folder(self._folder)
        os.dup2(folder.fd, self._fd, inheritable=False)  # others may be using that very number
        folder.close()
        with suppress(FileNotFoundError):  # one of our name that is not ours, a copy say
            os.unlink(f"{lock.host_id}.lock", dir_fd=self._fd)
        file = self._locked_file(lock.host_id)
        if file is not None:
            lock.replace(file)
        return file is not None

    def leave(self, lock: HostLock) -> None:
        """Remove our own file, then release its lock: nobody ever sees it unlocked."""
        self._unlink(lock.host_id)
        lock.close()

    def is_alive(self, host_id: str, pid: int | None = None, hostname: str | None = None) -> bool:
        """Ask the kernel whether a host lives; 4 µs.

        If its file is gone its process is looked for, as its row names it. One that cannot be asked
        (no descriptor is left, say) counts as alive: nothing is lost.
        """
        if not _ID.fullmatch(host_id):
            return False
        try:
            opened = Descriptor(f"{host_id}.lock", _LOOK, dir_fd=self._fd)
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ELOOP)  # a link is no lock of ours
            return not gone or is_running(pid, hostname)
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            opened.close()
        return False

    def has_entered(self, host_id: str) -> bool:
        """Whether a living host has the cache open, and is not only opening it."""
        try:
            found = os.stat(f"{host_id}.lock", dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False  # it has just left
        return bool(found.st_mode & stat.S_IWUSR)

    def forget(self, host_id: str) -> None:
        """Remove the files of a dead host, under its lock, so that only one process does it."""
        if not _ID.fullmatch(host_id):
            return
        try:
            file = open_raw(f"{host_id}.lock", _LOOK, dir_fd=self._fd)
        except OSError:
            return
        with file, suppress(OSError):  # alive, or another process does it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._unlink(host_id)

    def listed(self) -> list[str]:
        """The ids that have a lock file."""
        with os.scandir(self._fd) as entries:
            names = [entry.name for entry in entries]
        ids = [name.removesuffix(".lock") for name in names if name.endswith(".lock")]
        return [host_id for host_id in ids if _ID.fullmatch(host_id)]

    def _locked_file(self, host_id: str) -> FileIO | None:
        return self._locked_then_named(host_id) or self._named_then_locked(host_id)

    def _locked_then_named(self, host_id: str) -> FileIO | None:
        """Nobody ever sees such a file unlocked; None where the file system cannot do this."""
        try:
            file = open_raw(".", _UNNAMED, _OPENING, dir_fd=self._fd)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(f"/proc/self/fd/{file.fileno()}", f"{host_id}.lock", dst_dir_fd=self._fd)
        except OSError:
            file.close()
            return None
        return file

    def _named_then_locked(self, host_id: str) -> FileIO | None:
        """None if another process took it for a dead host's in between."""
        file = open_raw(f"{host_id}.lock", _CREATE, _OPENING, dir_fd=self._fd)
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return file
        self._unlink_lock(host_id)
        file.close()
        return None

    def _unlink(self, host_id: str) -> None:
        self._remove_workers(host_id)
        self._unlink_lock(host_id)

    def _unlink_lock(self, host_id: str) -> None:
        with suppress(OSError):  # another process was faster
            os.unlink(f"{host_id}.lock", dir_fd=self._fd)

    def _remove_workers(self, host_id: str) -> None:
        """Remove what the workers of a host left; what stays is harmless, and logged."""
        folder = self._workers / host_id
        try:
            remove(folder)
        except OSError as error:
            logger.warning(
                "cannot remove %s, which the workers of a host left: %s; remove it by hand",
                folder,
                error,
                extra=about("workers_folder_left", place=str(folder), error=str(error)),
            )

    def _prove(self, lock: HostLock) -> None:
        if not self.is_alive(lock.host_id):
            self.leave(lock)
            raise CacheDirectoryRefused(
                f"file locks do not work in {self._folder}: a second lock of the same file was "
                "granted; choose a cache directory on a local file system"
            )


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


class Living(NamedTuple):
    """How many hosts live: those that have the cache open, and those that are opening it."""

    entered: int
    opening: int


def living_hosts(folder: Path, rows: Iterable[tuple[str, int, str]] = ()) -> Living:
    """Count the hosts that are alive, for callers that hold no host lock.

    `rows` are id, pid and hostname of hosts that may have lost their lock file.
    """
    with closing(Hosts(folder)) as hosts:
        listed = hosts.listed()
        living = [host_id for host_id in listed if hosts.is_alive(host_id)]
        entered = sum(map(hosts.has_entered, living))
        lost = sum(hosts.is_alive(*row) for row in rows if row[0] not in listed)
    return Living(entered + lost, len(living) - entered)
