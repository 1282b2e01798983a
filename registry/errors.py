"""Every error that `registry` raises on purpose: one base class, and a class for each problem.

A message names the artifact, its state, and what to do next. An operation that raises one of
these changed nothing, unless its docstring says otherwise. A wrong *type* is a plain `TypeError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.base_errors import InvalidId, InvalidParams, RegistryError

if TYPE_CHECKING:
    from registry.artifact import Artifact

__all__ = [
    "AmbiguousPrefix",
    "ArtifactBusy",
    "CacheDirectoryRefused",
    "ClaimLost",
    "CodeTooLarge",
    "DatabaseDamaged",
    "DiskFull",
    "ExecutionError",
    "FunctionRefused",
    "HandleClosed",
    "HandleForked",
    "InternalError",
    "InvalidCandidate",
    "InvalidData",
    "InvalidId",
    "InvalidParams",
    "InvalidSetting",
    "NotARegistry",
    "NotPrepared",
    "OpenTimeout",
    "PossiblyInvalid",
    "PreparationFailed",
    "PrepareError",
    "QueueFull",
    "RecursivePreparation",
    "RegistryBusy",
    "RegistryError",
    "SchemaTooNew",
    "SchemaTooOld",
    "UnknownArtifact",
    "WaitTimeout",
    "WrongLoop",
]


class FunctionRefused(RegistryError, TypeError):
    """Nothing proves to other processes which function is decorated; a `name=` may be given."""


class InvalidSetting(RegistryError, ValueError):
    """A setting has an unknown name or a value outside its range."""


class InvalidData(RegistryError, ValueError):
    """What was handed over to be stored cannot be: empty bytes, no plain file, text with NUL."""


class CodeTooLarge(RegistryError, ValueError):
    """The code is, or decompresses to, more bytes than the limit; this is not remembered."""


class UnknownArtifact(RegistryError, LookupError):
    """There is no such prepared artifact (any more); prepare it and ask again."""


class AmbiguousPrefix(RegistryError, LookupError):
    """Several artifacts start with this prefix; give more digits."""


class ArtifactBusy(RegistryError):
    """The artifact is being prepared just now; wait for it, then try again."""


class ClaimLost(RegistryError):
    """The claim ended, or another host took it over; the work is discarded."""


class WaitTimeout(RegistryError, TimeoutError):
    """The artifact was still being prepared when the time for waiting ran out."""


class RecursivePreparation(RegistryError, RuntimeError):
    """A `prepare` needs the artifact that it prepares, or one that waits for it: never to end."""


class PreparationFailed(RegistryError):
    """The artifact could not be prepared, now or at an earlier time that is remembered.

    `artifact` is the failed artifact: its `error`, `error_kind`, `num_failures` and `retry_at`.
    `__cause__` is the exception of `prepare` where it ran in this call. The message of a stored
    failure says since when it is stored, and the command that lets it be tried again.
    """

    def __init__(self, message: str, artifact: Artifact | None = None) -> None:
        super().__init__(message)
        self.artifact = artifact


class PrepareError(RegistryError):
    """Raised *by* a `prepare` to say how it failed.

    `deterministic` errors are remembered and never retried by themselves: the same code will fail
    the same way. One that is not `remembered` says nothing about the code (this machine has no
    licence, no memory, no compiler): nothing is stored, and who asks next tries again. `kind` is a
    short word that groups failures (default: "preparation").
    """

    # For a kind of error whose own `__init__` does not call this one.
    kind = "preparation"
    deterministic = True
    remembered = True

    def __init__(
        self,
        message: str,
        *,
        kind: str = "preparation",
        deterministic: bool = True,
        remembered: bool = True,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.deterministic = deterministic
        self.remembered = remembered


class HandleClosed(RegistryError):
    """The handle was closed; open a new one."""


class HandleForked(HandleClosed):
    """The handle was opened in the parent of this process; open a new one after a fork."""


class WrongLoop(RegistryError, RuntimeError):
    """An `AsyncRegistry` was used from another event loop than the one that opened it."""


class RegistryBusy(RegistryError, TimeoutError):
    """The database stayed locked by others past the time-out; the statement was not run."""


class CacheDirectoryRefused(RegistryError):
    """The cache directory is not safe or not usable: not ours, writable by others, not local."""


class OpenTimeout(RegistryError, TimeoutError):
    """Another process has been creating or migrating the cache for too long."""


class NotARegistry(RegistryError):
    """The database belongs to another application; it is left as it is."""


class DatabaseDamaged(RegistryError):
    """The database cannot be read as one of ours."""


class SchemaTooNew(RegistryError):
    """The database is of a newer version that no longer admits this one; upgrade `registry`."""


class SchemaTooOld(RegistryError):
    """The database has an older schema, which may not be upgraded, or does not let itself be."""


class DiskFull(RegistryError, OSError):
    """There is no room left on the disk of the cache; prune it or make room, then try again."""


# How an execution fails, told apart by whose fault it is: what does the failure say about the
# candidate? That it is invalid; perhaps, so try once more; nothing at all.


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


class QueueFull(RegistryError):
    """A host has as many requests as its `max_waiting` allows; nothing was started, ask later.

    A web service answers 503.
    """


class InternalError(ExecutionError):
    """The host could not do its part; it says nothing about the candidate."""

    default_kind = "kernel"


class NotPrepared(InternalError, PreparationFailed):
    """The artifact could not be prepared, in a way that may pass; `artifact` tells when.

    Where the machine was at fault (no memory, no thread, no worker, a limit of this host), nothing
    is remembered, and `artifact` is only what would have been.
    """

    def __init__(self, failure: PreparationFailed) -> None:
        artifact = failure.artifact
        kind = None if artifact is None else artifact.error_kind
        InternalError.__init__(self, str(failure), kind=kind)
        self.artifact = artifact

    def __reduce__(self) -> tuple[object, ...]:
        """Be pickled like all others, though it is made of another error."""
        return type(self), (PreparationFailed(str(self), self.artifact),), self.__dict__
