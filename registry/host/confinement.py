"""What a confined job may reach: what runs it, what it works on, and nothing else.

A backend is trusted: the host loads it as its workers do. What it is given is not: code may break
out of a compiler, an artifact out of a sandbox. So it is the job process that is confined, in its
last step before it calls the backend, by the kernel (`registry.world.landlock`).

It may read, and run, the interpreter, the import path and the system's programs and libraries, and
read what the kernel tells in /proc. It may write only in its worker's folder: to prepare, all of
it; to execute, its scratch folder, which is the working directory and TMPDIR. It has no TCP, and
signals only what it has started, if the kernel is new enough.

The cache, with the database, is out of reach even where it lies beneath what may be read, as with
a cache in the current directory: then what lies beside it is granted, piece by piece, as it is when
the worker starts. Names can be listed there, but nothing be opened.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry.errors import InvalidSetting
from registry.log import about
from registry.world.landlock import Access, Grant, restrict, version

__all__ = ["Confinement", "enclose", "from_wire", "to_wire"]

_log = logging.getLogger(__name__)

# Where programs and libraries are, and what these look at before they do anything.
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime"),
    *("/proc", "/sys/devices/system/cpu"),
    *("/dev/zero", "/dev/random", "/dev/urandom"),
)
_NOWHERE = "/dev/null"


@dataclass(frozen=True, slots=True)
class Confinement:
    """Confine the jobs of a host to their folders, and to what else they need.

    `read` and `write` are files and folders that this backend needs besides. `hidden` is the
    cache; the host fills it in. Where the kernel offers no Landlock, jobs are NOT confined, and
    the host logs a warning; `registry doctor` says whether it does.
    """

    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    hidden: Path | None = None

    def around(self, cache: Path) -> Confinement:
        """Hide the cache; `InvalidSetting` for a path that is not there or would lay it open."""
        if not version():
            _log.warning(
                "the kernel offers no Landlock; jobs can reach whatever this user can",
                extra=about("unconfined"),
            )
        hidden = cache.resolve()
        for path in map(Path, (*self.read, *self.write)):
            if not path.exists():
                raise InvalidSetting(f"jobs cannot be given {path}: it is not there")
            if hidden.is_relative_to(path.resolve()):
                raise InvalidSetting(f"jobs cannot be given {path}: the cache {cache} is in it")
        return Confinement(_absolute(self.read), _absolute(self.write), hidden)

    def grants(self) -> list[Grant]:
        """What every job of this very process may reach, but for its own folder."""
        needed = {*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path}
        return [
            *(grant for path in sorted(needed) for grant in self._but_for_the_hidden(path)),
            *((str(path), Access.READ) for path in self.read),
            *((str(path), Access.WRITE) for path in self.write),
            (_NOWHERE, Access.READ | Access.WRITE),
        ]

    def _but_for_the_hidden(self, path: str) -> Iterator[Grant]:
        real, hidden = Path(path).resolve(), self.hidden
        if hidden is None or not (hidden.is_relative_to(real) or real.is_relative_to(hidden)):
            yield str(real), Access.READ
        elif real in hidden.parents:
            yield str(real), Access.LIST
            for entry in _entries(real, hidden):
                yield from self._but_for_the_hidden(entry)


def to_wire(confinement: Confinement | None) -> str:
    """Say it on a worker's command line."""
    if confinement is None:
        return ""
    hidden = [] if confinement.hidden is None else [confinement.hidden]
    parts = (confinement.read, confinement.write, hidden)
    return json.dumps([list(map(str, part)) for part in parts])


def from_wire(said: str) -> Confinement | None:
    """Read back what `to_wire` said."""
    if not said:
        return None
    read, write, hidden = ([Path(path) for path in part] for part in json.loads(said))
    return Confinement(read, write, *hidden)


def enclose(grants: Sequence[Grant], *, readable: Path, writable: Path) -> None:
    """Confine this very process; raises `OSError`."""
    if version():
        own = (str(readable), Access.READ), (str(writable), Access.WRITE)
        restrict([*grants, *own])


def _entries(folder: Path, hidden: Path) -> Iterator[str]:
    with suppress(OSError):  # what we cannot list, we need not grant
        for entry in os.scandir(folder):
            # What leads back up is met from above, and would be met without end from here.
            if not (entry.is_symlink() and Path(entry).resolve() in hidden.parents):
                yield entry.path


def _absolute(paths: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(Path(os.path.abspath(path)) for path in paths)
