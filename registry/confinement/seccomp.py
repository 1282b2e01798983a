"""Seccomp: a process permanently gives up system calls that it does not need.

The filter is made by libseccomp, through its binding `pyseccomp` (extra "isolate"), once in a host.
It is a program for the kernel, in bytes, which the host hands to its workers: they need no library.

What is refused fails with EPERM, as if it were not permitted; all else is allowed, so that any
compiler runs. Programs can still be started by fork and exec.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import tempfile
from typing import Any

__all__ = ["install", "make_filter", "why_not"]

_PR_GET_SECCOMP = 21
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_INSTRUCTION = 8  # bytes

# Refused with any arguments. A name that is unknown to libseccomp is one that it is too old
# for, or one of another architecture; those that are newer than most libraries have numbers below.
_REFUSED = (
    # Other processes: their memory, their descriptors, their pages.
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease"),
    *("pidfd_getfd", "kcmp", "migrate_pages", "move_pages"),
    # Sockets of every family, which includes those that have a name in the file system.
    *("socket", "socketcall", "bind", "connect", "listen", "accept", "accept4"),
    # Ways around a filter, for what they do is no system call of this process.
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # Memory and queues that stay when the process is gone.
    *("ipc", "shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl"),
    *("msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"),
    # The kernel's own rings, programs and counters.
    *("add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd"),
    *("fanotify_init", "open_by_handle_at", "name_to_handle_at", "lookup_dcookie"),
    # Mounts, roots and namespaces.
    *("mount", "umount", "umount2", "pivot_root", "chroot", "unshare", "setns", "open_tree"),
    *("move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
    # Attributes of files, which no Landlock refuses, and quotas.
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("quotactl", "quotactl_fd"),
    # The machine: its clock, its modules, its swap, its name, its ports.
    *("reboot", "swapon", "swapoff", "kexec_load", "kexec_file_load", "init_module"),
    *("finit_module", "delete_module", "acct", "settimeofday", "clock_settime", "clock_settime64"),
    *("clock_adjtime", "clock_adjtime64", "adjtimex", "stime", "sethostname", "setdomainname"),
    *("iopl", "ioperm", "vhangup", "syslog"),
)
# From 424 on, a system call has the same number on every architecture.
_REFUSED_NUMBERS = (
    *(425, 426, 427),  # io_uring
    *(428, 429, 430, 431, 432, 433, 442, 467),  # open_tree, ..., mount_setattr, open_tree_attr
    *(438, 440, 448),  # pidfd_getfd, process_madvise, process_mrelease
    *(443, 463, 466, 469),  # quotactl_fd, setxattrat, removexattrat, file_setattr
)
_CLONE3 = 435

# Where this argument is not 0, they are about another process.
_OF_ANOTHER = {
    **dict.fromkeys(("prlimit64", "sched_setaffinity", "sched_setscheduler"), 0),
    **dict.fromkeys(("sched_setparam", "sched_setattr"), 0),
    **dict.fromkeys(("setpriority", "ioprio_set"), 1),
}
# Where their first argument is this, they are about all processes of a group, or of a user. The
# group may be one of others, which a job has joined.
_OF_MANY = {"setpriority": (1, 2), "ioprio_set": (2, 3)}
# CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWNS of <linux/sched.h>.
_NAMESPACES = (
    *(0x02000000, 0x04000000, 0x08000000, 0x10000000),
    *(0x20000000, 0x40000000, 0x00020000),
)
# TIOCSTI and TIOCLINUX type into a terminal. FS_IOC_SETFLAGS (twice), FS_IOC_FSSETXATTR and
# FS_IOC_ENABLE_VERITY make a file immutable, FS_IOC_SET_ENCRYPTION_POLICY a folder unreadable.
_CONTROLS = (0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820, 0x40806685, 0x800C6613)
_INT = 0xFFFFFFFF  # the kernel looks at no more of an argument that is an int
_DATAGRAMS = (2, 3)  # SOCK_DGRAM, and SOCK_RAW, which among AF_UNIX is the same
_TYPE_OF_SOCKET = 0xF
_AF_UNIX = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@functools.cache
def why_not() -> str:
    """Return why no filter can be created here, or an empty string."""
    try:
        import pyseccomp
    except ImportError:
        return "pyseccomp is not installed: `pip install 'compile-registry[isolate]'`"
    except (OSError, RuntimeError, AttributeError) as error:
        return f"libseccomp cannot be loaded: {error}"
    if pyseccomp.get_api() < 1 or not _is_in_the_kernel():
        return "the kernel has no seccomp"
    return ""


@functools.cache
def make_filter() -> bytes:
    """Make the filter, for `install`; only where `why_not` has nothing to say."""
    import pyseccomp

    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    made.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.ERRNO(errno.EPERM))
    _refuse_names(made, pyseccomp)
    _refuse_arguments(made, pyseccomp)
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def install(program: bytes) -> None:
    """Hold this process, and all that it starts, to a filter; raises `OSError`.

    Only in a process that cannot gain privileges (see `forgo_privileges`).
    """
    said = _Program(len(program) // _INSTRUCTION, program)
    nothing = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_MODE_FILTER)
    if _libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(said), nothing, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")


def _refuse_names(made: Any, library: Any) -> None:
    refusal = library.ERRNO(errno.EPERM)
    known = {library.resolve_syscall(library.Arch.NATIVE, name) for name in _REFUSED}
    for number in sorted({*known, *_REFUSED_NUMBERS}):
        if number >= 0:  # below are those that this architecture has not
            made.add_rule(refusal, number)
    # Its flags are out of a filter's sight. Told that there is no such call, the C library falls
    # back to clone, whose flags are not.
    made.add_rule(library.ERRNO(errno.ENOSYS), _CLONE3)


def _refuse_arguments(made: Any, library: Any) -> None:
    def refuse(name: str, *conditions: Any) -> None:
        number = library.resolve_syscall(library.Arch.NATIVE, name)
        if number >= 0:
            made.add_rule(library.ERRNO(errno.EPERM), number, *conditions)

    for name, argument in _OF_ANOTHER.items():
        refuse(name, library.Arg(argument, library.NE, 0))
    for name, kinds in _OF_MANY.items():
        for kind in kinds:
            refuse(name, library.Arg(0, library.MASKED_EQ, _INT, kind))
    for flag in _NAMESPACES:
        refuse("clone", library.Arg(_flags_of_clone(), library.MASKED_EQ, flag, flag))
    for control in _CONTROLS:
        refuse("ioctl", library.Arg(1, library.MASKED_EQ, _INT, control))
    refuse("personality", library.Arg(0, library.NE, _INT))  # which only reads
    # A pair is connected to itself, but a pair of datagrams can send to anybody.
    refuse("socketpair", library.Arg(0, library.NE, _AF_UNIX))
    for kind in _DATAGRAMS:
        refuse("socketpair", library.Arg(1, library.MASKED_EQ, _TYPE_OF_SOCKET, kind))


def _flags_of_clone() -> int:
    return 1 if platform.machine() == "s390x" else 0


def _is_in_the_kernel() -> bool:
    nothing = ctypes.c_ulong(0)
    return bool(_libc.prctl(_PR_GET_SECCOMP, nothing, nothing, nothing, nothing) >= 0)
