"""What can go wrong when an artifact is loaded and run; preparing raises `PrepareError`.

Each says whose fault it is, as every execution does: the code's (or the request's), perhaps the
artifact's, or nobody's who asked.
"""

from __future__ import annotations

from registry.errors import InvalidCandidate, PossiblyInvalid

__all__ = ["ArtifactRejected", "InvalidRequest", "Trap"]


class ArtifactRejected(PossiblyInvalid):
    """This wasmtime, on this machine, cannot load the file as an artifact; prepare it again."""

    default_kind = "corrupted_artifact"


class InvalidRequest(InvalidCandidate, ValueError):
    """The request does not fit the module: no such function, wrong arguments or imports."""

    default_kind = "invalid_request"


class Trap(InvalidCandidate):
    """The code was stopped while it ran, by its own doing or by a limit; the message is wasmtime's.

    `code` is wasmtime's word for the reason, such as "unreachable", "stack_overflow" or, for a
    time limit, "interrupt"; None where it has none. `kind` is "timed_out" for an interruption,
    else "rejected". `stdout` and `stderr` are what had been captured until then: a panic usually
    says there what happened.
    """

    def __init__(
        self, message: str, *, code: str | None = None, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(message, kind="timed_out" if code == "interrupt" else None)
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
