"""Landlock: a process permanently gives up access that it does not need.

It holds for the process and all that it starts from then on. It needs no root, and cannot be
undone; what was opened before stays open. Each release of the kernel's interface knows more
accesses than the one before, and we ask for all that this kernel knows:

    1   files and folders: to read, write, run, make, remove
    2   to link or rename from one folder into another; before, that was always refused
    3   to truncate a file
    4   to bind and connect TCP sockets
    5   to control devices
    6   to signal processes outside, and to connect to abstract sockets outside

NOT refused by any of them: to look at a file's name, size and times, to change its mode and times,
UDP, and sockets that have a name in the file system.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from enum import IntFlag
from typing import TypeAlias

__all__ = ["Access", "Grant", "restrict", "version"]


class Access(IntFlag):
    """What may be done beneath a path; the bits are those of <linux/landlock.h>."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    LIST = 1 << 3
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    CONTROL_DEVICE = 1 << 15

    READ = EXECUTE | READ_FILE | LIST
    # All of the first release: besides those above, to remove and to make each kind of file.
    FIRST = (1 << 13) - 1
    WRITE = FIRST | REFER | TRUNCATE
    # What can be granted of something that is no folder.
    OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | CONTROL_DEVICE


Grant: TypeAlias = tuple[str, Access]

# The same number on every common architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_TELL_THE_VERSION = 1
_PATH_BENEATH = 1
# Bind and connect; abstract sockets and signals.
_BOTH = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the kernel's version of Landlock; 0 if it has none, or it is switched off."""
    try:
        return _call(_CREATE_RULESET, None, 0, _TELL_THE_VERSION)
    except OSError:
        return 0


def restrict(grants: Iterable[Grant]) -> None:
    """Give up all but these accesses, as far as the kernel knows them.

    A missing path is skipped. Raises `OSError` where there is no Landlock, and
    in a process that could still gain privileges (see `forgo_privileges`).
    """
    release = version()
    handled = _known(release)
    wanted = _Ruleset(handled, _BOTH if release >= 4 else 0, _BOTH if release >= 6 else 0)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0)
    try:
        for path, access in grants:
            _grant(ruleset, path, access & handled)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _known(release: int) -> Access:
    later = ((2, Access.REFER), (3, Access.TRUNCATE), (5, Access.CONTROL_DEVICE))
    known = Access.FIRST
    for since, access in later:
        if release >= since:
            known |= access
    return known


def _grant(ruleset: int, path: str, access: Access) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # missing, or not accessible to us anyway
        return
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            access &= Access.OF_A_FILE
        if access:
            beneath = _Beneath(access, parent)
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(parent)


def _call(number: int, *arguments: object) -> int:
    answer: int = _libc.syscall(ctypes.c_long(number), *map(_widened, arguments))
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"landlock ({number})")
    return answer


def _widened(argument: object) -> object:
    # Variadic: a plain int would be passed with its upper half undefined.
    return ctypes.c_long(argument) if isinstance(argument, int) else argument
