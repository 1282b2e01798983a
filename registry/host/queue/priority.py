"""How urgent a preparation is, and what an execution is for."""

from __future__ import annotations

from enum import Enum, StrEnum

__all__ = ["ExecutionKind", "Priority"]


class Priority(Enum):
    """How urgent a preparation is: a `CRITICAL` one overtakes every `NORMAL` one that waits."""

    NORMAL = "normal"
    CRITICAL = "critical"


class ExecutionKind(StrEnum):
    """What an execution is for: `DISPUTE`, `APPROVAL`, `BACKING_SYSTEM_PARAS` or `BACKING`.

    The weightiest comes first; `Shares` says how much of the workers' turns each may have.
    """

    DISPUTE = "dispute"
    APPROVAL = "approval"
    BACKING_SYSTEM_PARAS = "backing_system_paras"
    BACKING = "backing"
