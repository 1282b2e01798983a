"""How urgent a preparation is, and what an execution is for."""

from __future__ import annotations

from enum import Enum, StrEnum

__all__ = ["ExecutionKind", "Priority"]


class Priority(Enum):
    """How urgent a preparation is; a critical one overtakes every normal one that waits."""

    NORMAL = "normal"
    CRITICAL = "critical"


class ExecutionKind(StrEnum):
    """What an execution is for, the weightiest first."""

    DISPUTE = "dispute"
    APPROVAL = "approval"
    BACKING_SYSTEM_PARAS = "backing_system_paras"
    BACKING = "backing"
