"""The capabilities of root, given up by a process and all that it starts, for good.

What is left of root then is a user like any other, who owns root's files.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["drop_capabilities"]

# From <linux/prctl.h> and <linux/capability.h>.
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    # Effective, permitted and inheritable, in two halves.
    _fields_ = (("halves", ctypes.c_uint32 * 6),)


def drop_capabilities() -> None:
    """Empty all five sets of this process; raises `OSError`.

    Without root there is little to empty. With PR_SET_NO_NEW_PRIVS nothing comes back by starting
    a program.
    """
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    for capability in range(_MOST):
        if not _prctl(_PR_CAPBSET_DROP, capability):  # not allowed to, or no such capability
            break
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref(_Sets())) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")


def _prctl(option: int, argument: int) -> bool:
    nothing = ctypes.c_ulong(0)
    answer: int = _libc.prctl(option, ctypes.c_ulong(argument), nothing, nothing, nothing)
    return answer == 0
