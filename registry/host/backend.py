"""A backend: the compiler and the runtime of a host.

A backend is a module, named by its import path, with three functions:

`identity(params)`
    runs in threads of the host and says what an artifact depends on besides its code: the
    backend's name and version, the target, and the parameters that change the artifact. No
    others: a parameter without effect must not cause a new preparation.
`prepare(code, params)`
    runs in a worker and returns the artifact's bytes. `PrepareError(message, kind=...,
    deterministic=...)` reports a failure; any other exception is a "job_error", which is
    remembered as deterministic, but for an `OSError` ("io_err", which may be tried again). What
    says that the machine ran out of something (`MemoryError`, ENOSPC) is not remembered at all,
    nor is a bug of the backend (`registry.blame`), nor a `PrepareError` that says so
    (`remembered=False`).
`execute(path, request)`
    runs in a worker. `path` is the artifact's file, to be read and not to be changed. It returns
    a value that msgpack supports. `InvalidCandidate` says that the code refuses the request;
    `PossiblyInvalid(kind="corrupted_artifact")` that the artifact cannot be used.

And three more, if it wants them:

`check_code(code, limit)`
    runs in a thread of the host, before anything is claimed, and raises `CodeTooLarge` for code
    that has, or decompresses to, more than `limit` bytes. A backend that has it is handed the
    limit as the parameter "code_limit" too. Without it, the code is measured as it is.
`KIND`
    a constant: what `registry ls --kind` and the metrics call its artifacts, such as "wasm".
`preload()`
    runs once in each worker, and imports what `prepare` and `execute` would import each time.

`prepare` and `execute` run in a fresh process each time, forked from a worker that has imported
the module: what is loaded then is loaded once, and what a job changes is forgotten with it. So
importing must start no thread, and the functions need nothing of the environment: in a worker
there is none but TMPDIR, the working directory, which is emptied after each job. Standard input is
empty, and what is printed is kept only for the last words of a job that dies.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from registry.errors import CodeTooLarge
from registry.verbs.text import as_kind

__all__ = ["Backend", "check_code", "import_path", "kind", "load", "preload", "takes_code_limit"]


class Backend(Protocol):
    """The functions of a backend's module."""

    def identity(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what an artifact depends on besides its code."""

    def prepare(self, code: bytes, params: Mapping[str, Any]) -> bytes:
        """Compile the code."""

    def execute(self, path: Path, request: Any) -> Any:
        """Run the artifact."""


def load(path: str) -> Backend:
    """Import a backend by its path; raises `ImportError`, `TypeError`, or what the module does."""
    module = importlib.import_module(path)
    missing = [
        name
        for name in ("identity", "prepare", "execute")
        if not callable(getattr(module, name, None))
    ]
    if missing:
        raise TypeError(f"{path} is not a backend: it has no function {' and no '.join(missing)}")
    return cast(Backend, module)


def import_path(backend: str | ModuleType) -> str:
    """Return the import path of a backend."""
    if isinstance(backend, str):
        return backend
    if not isinstance(backend, ModuleType):
        raise TypeError(f"a backend is a module or its import path, not {type(backend).__name__}")
    if backend.__name__ == "__main__":
        raise TypeError("__main__ cannot be a backend: workers could not import it; use a module")
    return backend.__name__


def takes_code_limit(backend: Backend) -> bool:
    """Whether the backend measures code itself, and has a parameter for the limit."""
    return hasattr(backend, "check_code")


def check_code(backend: Backend, code: bytes, limit: int) -> None:
    """Raise `CodeTooLarge` for code over `limit` bytes, as the backend measures it."""
    measure = getattr(backend, "check_code", None)
    if measure is not None:
        measure(code, limit)
    elif len(code) > limit:
        raise CodeTooLarge(f"the code has {len(code)} bytes; {limit} is the limit")


def kind(backend: Backend) -> str | None:
    """The kind that the backend gives its artifacts, if any."""
    return as_kind(getattr(backend, "KIND", None))


def preload(backend: Backend) -> None:
    """Have the backend load what its jobs would load each time, if it says what."""
    load_more = getattr(backend, "preload", None)
    if load_more is not None:
        load_more()
