"""A job process, seen from its worker: forked, watched, ended, and never left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from registry.confinement.cgroup import Group
from registry.host import wire
from registry.host.messages import REPLY_LIMIT, Task
from registry.host.worker import job
from registry.host.worker.limits import Limits
from registry.host.worker.process import cpu_seconds, reap_offspring
from registry.host.worker.verdict import Ended

__all__ = ["HostGone", "fork_job"]

# Bytes of a dying job's output that are worth keeping.
LAST_WORDS = 2048
# Seconds. The CPU time is looked at whenever the limit could have been reached at the earliest,
# which near the limit would be all the time; more often than this it is not worth it.
_SHORTEST_LOOK = 0.01
# Seconds. More milliseconds than an int holds cannot be waited for.
_LONGEST_LOOK = 3600.0
_CHUNK = 1024**2


class HostGone(Exception):
    """The host closed its end, or died: there is nobody left to work for."""


def fork_job(task: Task, trade: job.Trade, folder: Path, host: socket.socket) -> RunningJob:
    """Start a process for the task.

    Raises `OSError` if the kernel has none to give; then the worker should end, for descriptors
    are left open.
    """
    report, report_end = os.pipe()
    output, output_end = os.pipe()
    worker = os.getpid()
    usage = Usage(trade.group)
    # A signal to the worker must not run the worker's handler in the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid == 0:
        try:
            host.close()
            os.close(report)
            os.close(output)
            job.run(task, trade, job.Room(folder, report_end, output_end), worker)
            os._exit(0)
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.close(report_end)
    os.close(output_end)
    return RunningJob(pid, report, output, usage)


class Usage:
    """The CPU time of all that a job starts, where a group counts it; else 0."""

    def __init__(self, group: Group | None) -> None:
        self.group = group
        self._before = 0.0 if group is None else group.cpu_seconds()

    def seconds(self) -> float:
        """Tell the CPU time since this was made."""
        return 0.0 if self.group is None else self.group.cpu_seconds() - self._before


class RunningJob:
    """One job process, and what was heard of it so far."""

    def __init__(self, pid: int, report: int, output: int, usage: Usage) -> None:
        self._pid = pid
        self._usage = usage
        self._exit = os.pidfd_open(pid)
        self._report_pipe, self._report = report, bytearray()
        self._output_pipe, self._output = output, bytearray()
        self._poll = select.poll()
        for pipe in (report, output):
            os.set_blocking(pipe, False)
            self._poll.register(pipe, select.POLLIN)
        self._poll.register(self._exit, select.POLLIN)

    def watch(self, host: socket.socket, limits: Limits) -> Ended:
        """Wait until it reported, ended, or has to be ended; raises `HostGone`."""
        self._poll.register(host, select.POLLRDHUP)
        deadline = time.monotonic() + limits.patience
        while True:
            used = max(cpu_seconds(self._pid), self._usage.seconds())
            left = deadline - time.monotonic()
            if used >= limits.cpu or left <= 0:
                return self._end(overran=True)
            look = min(left, (limits.cpu - used) / _cores(), _LONGEST_LOOK)
            look = max(look, _SHORTEST_LOOK)
            ready = {descriptor for descriptor, _ in self._poll.poll(look * 1000)}
            if host.fileno() in ready:
                raise HostGone
            self._listen(ready)
            if self._exit in ready or self._has_reported():
                return self._end(overran=False)

    def _listen(self, ready: set[int]) -> None:
        if self._report_pipe in ready:
            self._report += self._hear(self._report_pipe)
        if self._output_pipe in ready:
            self._output = (self._output + self._hear(self._output_pipe))[-LAST_WORDS:]

    def _hear(self, pipe: int) -> bytes:
        with suppress(BlockingIOError, KeyError):  # nothing yet; at its end, and heard so before
            heard = os.read(pipe, _CHUNK)
            if not heard:
                self._poll.unregister(pipe)
            return heard
        return b""

    def _end(self, *, overran: bool) -> Ended:
        # Not reaped yet, so the number is its own still.
        os.kill(self._pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._pid, 0)
        used = usage.ru_utime + usage.ru_stime + reap_offspring(self._usage.group)
        used = max(used, self._usage.seconds())  # which has those too that nobody waited for
        self._listen({self._report_pipe, self._output_pipe})
        for descriptor in (self._exit, self._report_pipe, self._output_pipe):
            os.close(descriptor)
        return Ended(
            self._content(), status, used, usage.ru_maxrss * 1024, overran, bytes(self._output)
        )

    def _has_reported(self) -> bool:
        end = self._report_end()
        return end is not None and len(self._report) >= end

    def _content(self) -> bytes | None:
        return bytes(self._report[wire.HEADER :]) if self._has_reported() else None

    def _report_end(self) -> int | None:
        if len(self._report) < wire.HEADER:
            return None
        try:
            return wire.HEADER + wire.length(bytes(self._report[: wire.HEADER]), REPLY_LIMIT)
        except ValueError:  # it ends here, as bytes that nobody takes for a reply
            return wire.HEADER


def _cores() -> int:
    return len(os.sched_getaffinity(0))
