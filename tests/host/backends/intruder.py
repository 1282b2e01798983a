"""A backend whose jobs try what a confined job must not do, each attempt in a child of its own.

`execute` answers, for each attempt, what came of it: "done", or why not.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DONE = "done"
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# Only the number matters: the arguments are such that nothing happens where the call is allowed.
CALLS = {
    "io_uring_setup": 425,
    "io_uring_register": 427,
    "open_tree": 428,
    "fsopen": 430,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "clone3": 435,
}
CALLS_X86_64 = {
    "ptrace": 101,
    "bpf": 321,
    "keyctl": 250,
    "add_key": 248,
    "userfaultfd": 323,
    "perf_event_open": 298,
    "unshare": 272,
    "setns": 308,
    "mount": 165,
    "umount2": 166,
    "shmget": 29,
    "semget": 64,
    "msgget": 68,
    "reboot": 169,
    "init_module": 175,
    "acct": 163,
    "settimeofday": 164,
    "swapon": 167,
    "quotactl": 179,
    "open_by_handle_at": 304,
    "process_vm_readv": 310,
    "listen": 50,
    "kexec_load": 246,
}


def identity(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": "intruder"}


def prepare(code: bytes, params: Mapping[str, Any]) -> bytes:
    return b"prepared " + code


def execute(path: Path, request: Mapping[str, Any]) -> Any:
    if request["do"] == "leave":
        return _leave(request)
    if request["do"] == "share":
        return _share(request["bytes"])
    if request["do"] == "hide":
        return _burn_unseen()
    return {
        f"{promise}: {name}": _in_a_child(attempt)
        for promise, attempts in _attempts(path, request).items()
        for name, attempt in attempts.items()
    }


def _leave(request: Mapping[str, Any]) -> int:
    """Leave processes behind that only ever fork and exit, each in a session of its own."""
    chain = [sys.executable, "-I", "-S", "-c", _CHAIN, str(request["seconds"])]
    for _ in range(request["chains"]):
        subprocess.Popen(chain, env={"CHAIN": request["mark"]}, start_new_session=True)
    return request["chains"]


def _share(size: int) -> int:
    """Use memory that is shared with children, be there none."""
    with mmap.mmap(-1, size) as shared:
        for page in range(0, size, mmap.PAGESIZE):
            shared[page] = 1
        return size


def _burn_unseen() -> None:
    """Have children burn two seconds of CPU time, which the kernel adds to nobody's."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(4):
        child = os.fork()
        if child == 0:
            while time.process_time() < 0.5:
                pass
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)  # it blocks until all have gone, and has nothing to tell


_CHAIN = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


def _attempts(path: Path, given: Mapping[str, Any]) -> dict[str, dict[str, Callable[[], object]]]:
    outside, victim, cache = Path(given["outside"]), given["victim"], Path(given["cache"])
    return {
        "files": {
            "read a file outside": outside.read_bytes,
            "write a file outside": lambda: outside.write_bytes(b"x"),
            "empty a file outside": lambda: os.truncate(outside, 0),
            "make a file outside": lambda: outside.with_name("new").touch(),
            "unlink a file outside": outside.with_name("doomed").unlink,
            "rename a file outside": lambda: outside.rename(outside.with_name("renamed")),
            "read the database": (cache / "registry.db").read_bytes,
            "list the cache": lambda: os.listdir(cache),
            "write to the artifact": lambda: os.open(path, os.O_WRONLY),
            "write to /dev/shm": lambda: Path("/dev/shm", given["name"]).touch(),
        },
        "attributes": {
            "chmod outside": lambda: outside.chmod(0o640),
            "chmod the cache": lambda: cache.chmod(0o700),
            "chmod the artifact": lambda: path.chmod(0o400),
            "utime outside": lambda: os.utime(outside, (1, 1)),
            "chown outside": lambda: os.chown(outside, os.getuid(), os.getgid()),
            "set an attribute": lambda: os.setxattr(outside, "user.x", b"1"),
            "make it append-only": lambda: _set_flags(outside, 0x20),
        },
        "network": {
            "TCP": lambda: _talk(socket.socket(), given["port"]),
            "MPTCP": lambda: _talk(socket.socket(socket.AF_INET, 1, 262), given["port"]),
            "TCP fast open": lambda: _send_at_once(given["port"]),
            "UDP": lambda: _datagram().sendto(b"x", ("127.0.0.1", given["port"])),
        },
        "sockets": {
            "by its name": lambda: _connect_by_name(given["socket"]),
            "by its name, from a pair": lambda: _pair().sendto(b"x", given["datagrams"]),
            "listen": lambda: socket.socket().listen(),
            "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        },
        "signals": {
            "kill": lambda: os.kill(victim, 0),
            "by descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(victim), 0),
        },
        "control": {
            "read its limits": lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE),
            "set its limits": lambda: resource.prlimit(victim, resource.RLIMIT_CORE, (0, 0)),
            "renice it": lambda: os.setpriority(os.PRIO_PROCESS, victim, 19),
            "bind it to a core": lambda: os.sched_setaffinity(victim, os.sched_getaffinity(0)),
            "have it die first": lambda: Path(f"/proc/{victim}/oom_score_adj").write_text("9"),
            "make it idle": lambda: os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0)),
        },
        "processes": {
            "its command line": lambda: Path(f"/proc/{victim}/cmdline").read_bytes(),
            "its environment": lambda: Path(f"/proc/{victim}/environ").read_bytes(),
            "its status": lambda: Path(f"/proc/{victim}/status").read_bytes(),
        },
        "calls": {name: lambda number=number: _call(number) for name, number in calls().items()},
        "privileges": {"have a capability": _have_a_capability},
        "memory": {"shared memory": lambda: _make_shared_memory(given["key"])},
    }


def calls() -> dict[str, int]:
    return CALLS | (CALLS_X86_64 if platform.machine() == "x86_64" else {})


def _in_a_child(attempt: Callable[[], object]) -> str:
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
            answer = DONE
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(said, answer.encode())
        os._exit(0)
    os.close(said)
    os.waitpid(child, 0)
    with os.fdopen(heard) as answers:
        return answers.read()


def _talk(connection: socket.socket, port: int) -> None:
    connection.settimeout(5)
    connection.connect(("127.0.0.1", port))


def _send_at_once(port: int) -> None:
    with socket.socket() as connection:
        connection.settimeout(5)
        connection.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", port))


def _datagram() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _connect_by_name(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(name)


def _pair() -> socket.socket:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]


def _set_flags(path: Path, flag: int) -> None:
    with open(path, "rb") as file:
        flags = bytearray(8)
        fcntl.ioctl(file, 0x80086601, flags)
        fcntl.ioctl(file, 0x40086602, struct.pack("l", struct.unpack("l", flags)[0] | flag))


def _call(number: int) -> None:
    """Make a system call that cannot do anything; raises if it is not let through to the kernel."""
    answer = _libc.syscall(*map(ctypes.c_long, (number, -1, -1, -1, -1, -1, -1)))
    if answer < 0 and ctypes.get_errno() in {errno.EPERM, errno.ENOSYS}:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _have_a_capability() -> None:
    said = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    if not any(int(said[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
        raise PermissionError("there is none")


def _make_shared_memory(key: int) -> None:
    if _libc.shmget(key, 4096, 0o1600) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
