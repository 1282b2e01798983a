"""Preparations and executions in worker processes that can be killed."""

from typing import TYPE_CHECKING, Any

from registry.errors import (
    ExecutionError,
    InternalError,
    InvalidCandidate,
    NotPrepared,
    PossiblyInvalid,
    QueueFull,
)
from registry.host.queue.policy import Fifo, Policy, Shares
from registry.host.queue.priority import ExecutionKind, Priority
from registry.host.worker.confinement import Confinement

if TYPE_CHECKING:
    from registry.host.host import Host

# Every worker imports this module, so it imports only what a worker needs.
__all__ = [
    "Confinement",
    "ExecutionError",
    "ExecutionKind",
    "Fifo",
    "Host",
    "InternalError",
    "InvalidCandidate",
    "NotPrepared",
    "Policy",
    "PossiblyInvalid",
    "Priority",
    "QueueFull",
    "Shares",
]


def __getattr__(name: str) -> Any:
    """Import the host when it is first asked for; a worker never does."""
    if name == "Host":
        from registry.host.host import Host

        return Host
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
