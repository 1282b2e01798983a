"""What a confined job may reach: what runs it, what it works on, and nothing else.

A backend is trusted: the host loads it as its workers do. What it is given is not: code may break
out of a compiler, an artifact out of a sandbox. So it is the job process that is confined, in its
last step before it calls the backend, by the kernel.

It may read, and run, the interpreter, the import path and the system's programs and libraries, and
read what the kernel tells in /proc. It may write only in its worker's folder: to prepare, all of
it; to execute, its scratch folder, which is the working directory and TMPDIR. What else it cannot
do depends on the means that this machine offers; `registry.confinement.isolation` says which, and
what each is good for.

The cache, with the database, is out of reach even where it lies beneath what may be read, as with
a cache in the current directory: then what lies beside it is granted, piece by piece, as it is when
the worker starts. Names can be listed there, but nothing be opened.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry.confinement import isolation, namespaces, seccomp
from registry.confinement.capabilities import drop_capabilities
from registry.confinement.isolation import Means
from registry.confinement.landlock import Access, Grant, restrict
from registry.errors import InvalidSetting
from registry.log import about

__all__ = ["Confinement", "Enclosure", "enclose", "from_wire", "to_wire"]

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

    `read` and `write` are files and folders that this backend needs besides. The host fills in the
    rest: `hidden` is the cache, `means` what this machine can confine jobs by. What it cannot, is
    NOT held: the host logs which, and `registry doctor` says it.
    """

    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    hidden: Path | None = None
    means: Means = field(default=Means())

    def _around(self, cache: Path) -> Confinement:
        """Hide the cache; `InvalidSetting` for a path that is not there or would lay it open."""
        means = isolation.available()
        _tell(means)
        hidden = cache.resolve()
        for path in map(Path, (*self.read, *self.write)):
            if not path.exists():
                raise InvalidSetting(f"jobs cannot be given {path}: it is not there")
            real = path.resolve()
            if hidden.is_relative_to(real):
                raise InvalidSetting(f"jobs cannot be given {path}: the cache {cache} is in it")
            if real.is_relative_to(hidden):
                raise InvalidSetting(f"jobs cannot be given {path}: it is in the cache {cache}")
        return Confinement(_absolute(self.read), _absolute(self.write), hidden, means)

    def _enclosure(self) -> Enclosure:
        """Collect what is the same for all jobs of this very process."""
        return Enclosure(self._grants(), self.means)

    def _seal(self, folder: Path) -> None:
        """Let this very process, a worker in namespaces, write to nothing else; raises `OSError`.

        Jobs need /proc to offer themselves to the kernel when memory runs out.
        """
        if self.means.namespaces:
            proc = ["/proc"] if self.means.landlock else []
            namespaces.make_read_only([str(folder), *map(str, self.write), *proc])
            os.chdir(folder)  # where we are is beneath what is now read-only

    def _grants(self) -> list[Grant]:
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


@dataclass(frozen=True, slots=True)
class Enclosure:
    """What all jobs of a worker may reach, but for their own folder, and what sees to it."""

    grants: Sequence[Grant]
    means: Means


def to_wire(confinement: Confinement | None) -> str:
    """Say it on a worker's command line."""
    if confinement is None:
        return ""
    hidden = [] if confinement.hidden is None else [confinement.hidden]
    parts = (confinement.read, confinement.write, hidden)
    means = confinement.means
    program = base64.b64encode(means.seccomp).decode()
    return json.dumps(
        [*(list(map(str, part)) for part in parts), means.landlock, program, means.namespaces]
    )


def from_wire(said: str) -> Confinement | None:
    """Read back what `to_wire` said."""
    if not said:
        return None
    *paths, release, program, own_namespaces = json.loads(said)
    read, write, hidden = ([Path(path) for path in part] for part in paths)
    means = Means(release, base64.b64decode(program), own_namespaces)
    return Confinement(read, write, hidden[0] if hidden else None, means)


def enclose(enclosure: Enclosure, *, readable: Path, writable: Path) -> None:
    """Confine this very process; raises `OSError`."""
    means = enclosure.means
    if means.namespaces and readable != writable:
        namespaces.keep_read_only(str(readable), but=str(writable))
        os.chdir(writable)  # as it is mounted now
    drop_capabilities()
    if means.landlock:
        own = (str(readable), Access.READ), (str(writable), Access.WRITE)
        restrict([*enclosure.grants, *own])
    if means.seccomp:
        seccomp.install(means.seccomp)


def _tell(means: Means) -> None:
    open_to = isolation.missing(means)
    if not means.landlock:
        _log.warning(
            "the kernel offers no Landlock; jobs can open all that this user can; %s",
            open_to,
            extra=about("unconfined", reason=open_to),
        )
    elif open_to:
        _log.info("%s", open_to, extra=about("partly_confined", reason=open_to))


def _entries(folder: Path, hidden: Path) -> Iterator[str]:
    with suppress(OSError):  # what we cannot list, we need not grant
        for entry in os.scandir(folder):
            # What leads back up is met from above, and would be met without end from here.
            if not (entry.is_symlink() and Path(entry).resolve() in hidden.parents):
                yield entry.path


def _absolute(paths: Sequence[Path]) -> tuple[Path, ...]:
    return tuple(Path(os.path.abspath(path)) for path in paths)
