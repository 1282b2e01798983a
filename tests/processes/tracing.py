"""The system calls of a child, seen or made to fail by strace, from one stop of it to the next.

The child stops itself before and after the part that is traced: a stop needs no system call that
could be made to fail.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from processes.crew import PATIENCE, Child, Died

__all__ = ["between_stops", "trace", "why_no_strace"]

T = TypeVar("T")


@cache
def why_no_strace() -> str:
    """Why nothing can be traced here; "" if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr}"


def between_stops(act: Callable[[], T]) -> T:
    """Do something in a child; what it does is traced."""
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        return act()
    finally:
        os.kill(os.getpid(), signal.SIGSTOP)


def trace(child: Child, log: Path, *options: str) -> list[str]:
    """Trace a child from its first stop to its second, and let it go on; the lines of strace.

    Raises `Died` if it ends before that.
    """
    _until(lambda: _status(child, "State") == "T")
    command = ["strace", "-qq", "-y", "-s", "0", "-o", str(log), *options, "-p", str(child.pid)]
    with subprocess.Popen(command) as strace:
        try:
            _until(lambda: _status(child, "TracerPid") == str(strace.pid) and _stops(log) == 1)
            os.kill(child.pid, signal.SIGCONT)
            _until(lambda: _stops(log) == 2)
        finally:
            strace.terminate()
    os.kill(child.pid, signal.SIGCONT)
    return [line for line in log.read_text().splitlines() if not line.startswith("---")]


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "it does not stop"
        time.sleep(0.001)


def _stops(log: Path) -> int:
    return log.read_text().count("--- stopped by SIGSTOP") if log.exists() else 0


def _status(child: Child, name: str) -> str:
    try:
        status = Path(f"/proc/{child.pid}/status").read_text()
    except FileNotFoundError:
        raise Died(f"{child.process} ended without a word") from None
    if "zombie" in status:
        raise Died(f"{child.process} ended without a word")
    return status.partition(f"{name}:\t")[2].split()[0]
