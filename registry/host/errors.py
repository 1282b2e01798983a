"""How an execution fails, told apart by whose fault it is.

The three answer one question, "what does the failure say about the candidate?": that it is
invalid; perhaps, so try once more; nothing at all. `registry.host.kinds` has the kinds of each.
"""

from __future__ import annotations

from registry.errors import PreparationFailed, RegistryError

__all__ = [
    "ExecutionError",
    "InternalError",
    "InvalidCandidate",
    "NotPrepared",
    "PossiblyInvalid",
]


class ExecutionError(RegistryError):
    """An execution gave no result; `kind` is a short word that groups failures."""

    default_kind = "job_error"

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = self.default_kind if kind is None else kind


class InvalidCandidate(ExecutionError):
    """The code refused the request, or took longer than it may; the same will happen again.

    A backend raises it from `execute` when the code says no.
    """

    default_kind = "rejected"


class PossiblyInvalid(ExecutionError):
    """The job or its worker died or raised, which may or may not be the candidate's doing.

    Trying once more is reasonable, trying for ever is not.
    """


class InternalError(ExecutionError):
    """The host could not do its part; it says nothing about the candidate."""

    default_kind = "kernel"


class NotPrepared(InternalError, PreparationFailed):
    """The artifact could not be prepared, in a way that may pass; `artifact` tells when."""

    def __init__(self, failure: PreparationFailed) -> None:
        artifact = failure.artifact
        kind = None if artifact is None else artifact.error_kind
        InternalError.__init__(self, str(failure), kind=kind)
        self.artifact = artifact
