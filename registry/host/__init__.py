"""Preparations and executions in worker processes that can be killed."""

from registry.host.errors import (
    ExecutionError,
    InternalError,
    InvalidCandidate,
    PossiblyInvalid,
)
from registry.host.policy import Fifo, Policy, Shares
from registry.host.priority import ExecutionKind, Priority

# Every worker imports this module, so it imports nothing that a worker does without.
__all__ = [
    "ExecutionError",
    "ExecutionKind",
    "Fifo",
    "InternalError",
    "InvalidCandidate",
    "Policy",
    "PossiblyInvalid",
    "Priority",
    "Shares",
]
