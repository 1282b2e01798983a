"""What a host and a worker say to each other, in the order in which it is said.

    worker -> host   UP       the process runs
                     READY    the backend is loaded; or BROKEN and why, and the worker ends
    host -> worker   a Task
    worker -> host   TAKEN    the whole task has arrived; from now on it is the job that fails
                     a Reply

and so on from the next task, until one of them is gone. A job process sends its worker one frame,
a Reply without the measurements, which only the worker can make.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal

from registry.errors import InvalidParams
from registry.host import wire
from registry.host.kinds import DETERMINISTIC, Kind
from registry.host.worker.limits import Limits

__all__ = [
    "BROKEN",
    "FATAL",
    "OF_THE_BACKEND",
    "OF_THE_HOST",
    "READY",
    "REPLY_LIMIT",
    "TAKEN",
    "TASK_LIMIT",
    "UP",
    "Reply",
    "Task",
    "legible",
]

UP, READY, BROKEN, TAKEN = "up", "ready", "broken", "taken"

# After these the worker ends, for the next job would see what is left, or fail the same way.
FATAL = frozenset({Kind.CREATE_TMP_FILE, Kind.CLEAR_WORKER_DIR, Kind.KERNEL})

# The fault of a failed preparation that says nothing about the code; and of one that the backend
# has put into words of its own, which may be the same words as ours.
OF_THE_HOST = "host"
OF_THE_BACKEND = "backend"

# Bytes of a frame. A host trusts its own tasks, as far as msgpack goes; what comes out of a job may
# be anything, and is held in memory twice. The artifact is no part of it, but a file.
TASK_LIMIT = 2**32
REPLY_LIMIT = 64 * 1024**2
# Characters of an error's text; more is of no use to a reader, and none to the registry.
MESSAGE_LIMIT = 64 * 1024
WORD_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Task:
    """One job: `prepare` of code (with params, as JSON), or `execute` of a request in msgpack."""

    verb: Literal["prepare", "execute"]
    payload: bytes
    limits: Limits
    params: str = "{}"

    @classmethod
    def prepare(cls, code: bytes, params: Mapping[str, Any], limits: Limits) -> Task:
        """Ask for a preparation; params that JSON cannot say are `InvalidParams`."""
        try:
            said = json.dumps(dict(params))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidParams(f"params cannot be told to a worker: {error}") from None
        return cls("prepare", code, limits, said)

    @classmethod
    def execute(cls, request: object, limits: Limits) -> Task:
        """Ask for an execution; raises what `wire.pack` raises."""
        return cls("execute", wire.pack(request, "request"), limits)

    def to_wire(self) -> list[Any]:
        """Say it in what msgpack can say."""
        return [self.verb, self.payload, self.limits.cpu, self.limits.memory, self.params]

    @classmethod
    def from_wire(cls, said: list[Any]) -> Task:
        """Read back what `to_wire` said."""
        verb, payload, cpu, memory, params = said
        return cls(verb, payload, Limits(cpu, memory), params)


@dataclass(frozen=True, slots=True)
class Reply:
    """How a job ended: well, with `kind` None and a result in msgpack, or not.

    `fault` is the name of the error that the backend raised, if that says more than the kind.
    `cpu_seconds` and `peak_memory` (bytes) are of the job process and its children.
    """

    kind: str | None = None
    message: str = ""
    deterministic: bool = False
    fault: str = ""
    result: bytes = b""
    cpu_seconds: float = 0.0
    peak_memory: int = 0

    @classmethod
    def failed(cls, kind: Kind, message: str, fault: str = "") -> Reply:
        """Make a failure of one of our own kinds."""
        return cls(str(kind), legible(message), kind in DETERMINISTIC, fault)

    def measured(self, cpu_seconds: float, peak_memory: int) -> Reply:
        """Add what the worker measured."""
        return replace(self, cpu_seconds=cpu_seconds, peak_memory=peak_memory)

    def to_wire(self) -> list[Any]:
        """Say it in what msgpack can say."""
        return list(astuple(self))

    @classmethod
    def from_wire(cls, said: object) -> Reply:
        """Read back what `to_wire` said; raises `ValueError` for anything else."""
        match said:
            case [
                str() | None as kind,
                str(message),
                bool(deterministic),
                str(fault),
                bytes(result),
                float(cpu_seconds),
                int(peak_memory),
            ]:
                word = None if kind is None else kind[:WORD_LIMIT]
                used = cpu_seconds, peak_memory
                return cls(word, legible(message), deterministic, fault[:WORD_LIMIT], result, *used)
        raise ValueError("this is no reply")


def legible(text: str) -> str:
    """Make what an exception says into text that can be sent and stored."""
    return text[:MESSAGE_LIMIT].encode(errors="replace").decode()
