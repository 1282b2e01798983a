"""What a job may use, and how a job process is held to it.

Time is counted twice. **CPU time**, of all threads and finished children, is the limit proper: it
hardly depends on how busy the machine is. The worker looks at it while the job runs and again at
its end; the kernel's RLIMIT_CPU, in whole seconds, stands behind it. **Wall-clock time**, a
multiple, bounds what uses no CPU: a job that sleeps, or is stopped.

Memory is bounded by RLIMIT_DATA: all that the process may write to and shares with nobody.
RLIMIT_AS would count reservations too, and a WebAssembly runtime reserves gigabytes of addresses
that it never touches. Files, of which some are nothing but memory, can grow as large as that, each.

Where the worker has a control group, the CPU time of all that the job has started counts while they
run. Else that of children counts when they have been waited for, and until then RLIMIT_CPU bounds
each; that of children whose end the job ignores does not count at all.

NOT bounded: memory shared between processes, the memory of all processes of a job together, their
number, and the disk. The control group of the host is there for that.
"""

from __future__ import annotations

import contextlib
import math
import resource
from dataclasses import dataclass
from datetime import timedelta

from registry.config import as_amount, as_span
from registry.errors import InvalidSetting

__all__ = [
    "APPROVAL_TIMEOUT",
    "BACKING_TIMEOUT",
    "LENIENT_TIMEOUT",
    "PRECHECK_TIMEOUT",
    "WALL_FACTOR",
    "Limits",
]

# CPU time. A precheck decides whether code is admitted, so it is strict; code once admitted must
# be prepared even on a machine six times slower.
PRECHECK_TIMEOUT = timedelta(seconds=60)
LENIENT_TIMEOUT = timedelta(seconds=360)
# Backing must finish before the next block; later checks may take six times as long.
BACKING_TIMEOUT = timedelta(seconds=2)
APPROVAL_TIMEOUT = timedelta(seconds=12)
# A fully loaded machine gives a process perhaps a quarter of a core.
WALL_FACTOR = 4
# The worker ends a job this much before the host would end the worker: an eighth of the CPU
# limit, and never more than half a second. It is the time for killing, clearing up and answering.
ANSWER_ROOM = 0.5
# The kernel's own count for RLIMIT_CPU goes by ticks of its clock, and was seen to be a sixth too
# high for a job that mostly calls into the system.
CPU_SLACK = 2
# Four times this is still a duration that a claim can have.
LONGEST = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Limits:
    """CPU time in seconds, and memory in bytes or None for no limit."""

    cpu: float
    memory: int | None = None

    @classmethod
    def of(cls, cpu_limit: timedelta, memory_limit: int | None, name: str = "cpu_limit") -> Limits:
        """Check the limits that a caller gave, the first by this name; 0 is an `InvalidSetting`."""
        cpu = as_span(name, cpu_limit).total_seconds()
        if cpu == 0 or cpu_limit > LONGEST:
            raise InvalidSetting(f"{name} is {cpu_limit}; a job has some time, a year at most")
        if memory_limit is not None and as_amount("memory_limit", memory_limit) == 0:
            raise InvalidSetting("memory_limit is 0; a job without memory cannot run")
        return cls(cpu, memory_limit)

    @property
    def wall(self) -> float:
        """How long the host waits for the worker's answer, in seconds."""
        return WALL_FACTOR * self.cpu

    @property
    def patience(self) -> float:
        """How long the worker lets the job run, in seconds; a little less."""
        return self.wall - self._answer_room

    @property
    def spans(self) -> tuple[float, float]:
        """How long the host waits, in two parts, of which the second is short."""
        short = self._answer_room / 2
        return self.wall - short, short

    @property
    def _answer_room(self) -> float:
        return min(ANSWER_ROOM, self.cpu / 8)

    def impose(self) -> None:
        """Hold this very process, and all that it starts, to the limits."""
        _bound(resource.RLIMIT_CPU, CPU_SLACK * math.ceil(self.cpu) + 1, grace=1)
        _bound(resource.RLIMIT_CORE, 0)
        if self.memory is not None:
            _bound(resource.RLIMIT_DATA, self.memory)
            _bound(resource.RLIMIT_FSIZE, self.memory)
        # When the machine runs out of memory, it is this process that the kernel should take.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")


def _bound(what: int, most: int, *, grace: int = 0) -> None:
    # Beyond `most` comes a signal that could be ignored, beyond the grace the end.
    end, hard = most + grace, resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:  # a limit that we run under ourselves cannot be raised
        end = min(end, hard)
    resource.setrlimit(what, (min(most, end), end))
