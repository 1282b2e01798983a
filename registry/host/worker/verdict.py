"""What became of a job, judged from what its worker could see of it.

In this order, the first that applies:

1.  It was ended for taking too long, or used more CPU time than it may although it answered:
    timed_out.
2.  It reported: that is the answer, however the process ended afterwards.
3.  It had a memory limit and died as native code dies that was refused memory: out_of_memory. A
    compiler written in C++ or Rust does not raise MemoryError, it aborts; what gives it away is
    its last words, or that it held nearly all it was allowed.
4.  It just died: job_died. A process killed by the kernel because memory ran out cannot be told
    from one killed by another process. A signal that no program sends to itself, and last words
    that complain of the machine, are not held against the code.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from registry.host import wire
from registry.host.kinds import Kind
from registry.host.messages import OF_THE_HOST, Reply
from registry.host.worker.limits import Limits
from registry.shortage import REFUSED_MEMORY, is_death_by_shortage

__all__ = ["Ended", "verdict"]

# How native code ends itself, or stumbles, when memory is refused.
_ABORTS = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP})
_NEARLY_ALL = 7 / 8


@dataclass(frozen=True, slots=True)
class Ended:
    """What a worker saw of a job: `report` is a whole frame's content or None, `status` waitpid's.

    `overran` says that the worker ended it; `last_words` is the end of what it printed.
    """

    report: bytes | None
    status: int
    cpu_seconds: float
    peak_memory: int
    overran: bool = False
    last_words: bytes = b""


def verdict(ended: Ended, limits: Limits) -> Reply:
    """Judge how a job ended."""
    return _judge(ended, limits).measured(ended.cpu_seconds, ended.peak_memory)


def _judge(ended: Ended, limits: Limits) -> Reply:
    killed_by = os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else None
    if ended.overran or ended.cpu_seconds > limits.cpu or killed_by == signal.SIGXCPU:
        return Reply.failed(Kind.TIMED_OUT, _too_long(ended, limits))
    if ended.report is not None:
        return _reported(ended.report)
    if killed_by in _ABORTS and _was_refused_memory(ended, limits):
        return Reply.failed(Kind.OUT_OF_MEMORY, f"the job {_end(ended)}, out of memory")
    blameless = is_death_by_shortage(killed_by, ended.last_words)
    fault = OF_THE_HOST if blameless else ""
    return Reply.failed(Kind.JOB_DIED, f"the job {_end(ended)} and gave no answer", fault)


def _reported(report: bytes) -> Reply:
    try:
        return Reply.from_wire(wire.unpack(report, wire.MOST_OF_OURS))
    except ValueError as error:
        return Reply.failed(Kind.JOB_DIED, f"the job answered with bytes that are none: {error}")


def _was_refused_memory(ended: Ended, limits: Limits) -> bool:
    if limits.memory is None:
        return False
    said_so = any(word in ended.last_words.lower() for word in REFUSED_MEMORY)
    return said_so or ended.peak_memory >= _NEARLY_ALL * limits.memory


def _too_long(ended: Ended, limits: Limits) -> str:
    return (
        f"the job used {ended.cpu_seconds:.1f} s of CPU time; it may use {limits.cpu:g} s, "
        f"and {limits.wall:g} s by the clock"
    )


def _end(ended: Ended) -> str:
    code = os.waitstatus_to_exitcode(ended.status)
    end = f"exited with status {code}" if code >= 0 else f"was killed by {_name(-code)}"
    words = ended.last_words.decode(errors="replace").strip()
    return f"{end} (its last words: {words!r})" if words else end


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
