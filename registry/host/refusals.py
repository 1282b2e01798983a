"""Recent failures because of this host's own limits.

Such a failure concerns only this host: another one, with other limits, may prepare the same code.
So it is not stored in the database. But this host must not compile again, at each request, code
that took minutes or all memory: it repeats the failure for as long as a stored failure is not
retried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from registry.artifact import Artifact, ArtifactId
from registry.config import RETRY_COOLDOWN
from registry.errors import NotPrepared, PreparationFailed, PrepareError
from registry.host.kinds import Kind
from registry.host.worker.limits import Limits

__all__ = ["Refusals"]

# One death may have any cause, such as the kernel killing it because memory ran out.
DEATHS = 3
# Most that are remembered.
_MOST = 1000


@dataclass(slots=True)
class _Refusal:
    """No exception that was raised: its traceback holds the code."""

    message: str
    artifact: Artifact | None
    cause: PrepareError
    kind: str
    limits: Limits
    until: float
    times: int = 1


class Refusals:
    """The failures of this host's own, by artifact."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[ArtifactId, _Refusal] = {}

    def note(self, id: ArtifactId, limits: Limits, error: NotPrepared) -> None:
        """Remember a failure, if it depends on the limits, or comes again and again."""
        cause = error.__cause__
        if not isinstance(cause, PrepareError):
            return
        kind = str(cause.kind)
        if kind not in (Kind.OUT_OF_MEMORY, Kind.TIMED_OUT, Kind.JOB_DIED):
            return
        before = self._known.pop(id, None)
        times = 1 if before is None or before.kind != kind else before.times + 1
        until = self._clock() + RETRY_COOLDOWN.total_seconds()
        self._known[id] = _Refusal(
            str(error), error.artifact, _bare(cause), kind, limits, until, times
        )
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def refuse(self, id: ArtifactId, limits: Limits) -> None:
        """Raise the noted failure while a retry would fail again."""
        known = self._known.get(id)
        if known is None or known.until <= self._clock() or not _holds(known, limits):
            return
        raise NotPrepared(PreparationFailed(known.message, known.artifact)) from known.cause

    def forget(self, id: ArtifactId) -> None:
        """Forget what is prepared now."""
        self._known.pop(id, None)


def _bare(error: PrepareError) -> PrepareError:
    return PrepareError(
        str(error), kind=error.kind, deterministic=error.deterministic, remembered=False
    )


def _holds(known: _Refusal, limits: Limits) -> bool:
    if known.kind == Kind.TIMED_OUT:
        return limits.cpu <= known.limits.cpu
    if known.kind == Kind.OUT_OF_MEMORY:
        most = known.limits.memory
        return most is None or (limits.memory is not None and limits.memory <= most)
    return known.times >= DEATHS
