"""What can go wrong when an artifact is loaded and run; preparing raises `PrepareError`."""

from __future__ import annotations

from registry.errors import RegistryError

__all__ = ["ArtifactRejected", "InvalidRequest", "Trap"]


class ArtifactRejected(RegistryError):
    """The file is no artifact that this wasmtime, on this machine, can load; prepare it anew."""


class InvalidRequest(RegistryError, ValueError):
    """What was asked of a module does not fit it: no such function, wrong arguments or imports."""


class Trap(RegistryError):
    """The code was stopped while it ran, by its own doing or by a limit; the message is wasmtime's.

    `code` is wasmtime's word for the reason, such as "unreachable", "stack_overflow" or, for a
    time limit, "interrupt"; None where it has none. `stdout` and `stderr` are what had been
    captured until then: a panic usually says there what happened.
    """

    def __init__(
        self, message: str, *, code: str | None = None, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
