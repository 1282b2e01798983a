"""Compile in a process of its own, whose death is an error here and not ours as well.

A compiler may be refused a thread and abort, run out of memory, or crash over the code. The child
reads the code from its stdin and writes one byte, which says how it went, and then the artifact, or
the error in JSON, to its stdout.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from registry.errors import CodeTooLarge, PrepareError, RegistryError
from registry.shortage import is_death_by_shortage
from registry.wasm.compiler import Params, prepare

__all__ = ["main", "prepare_in_child"]

_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
_MAIN = """\
import sys
params, *sys.path = sys.argv[1:]
from registry.wasm.child import main
main(params)
"""
_MADE, _FAILED = b"+", b"-"
_LAST_WORDS = 2000
_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def prepare_in_child(code: bytes, params: Mapping[str, Any] = _NO_PARAMS) -> bytes:
    """Do as `prepare` does, in a process that is started for it and may die of it.

    It takes a fifth of a second more. Raises what `prepare` raises, and `PrepareError` if the
    process dies, which is remembered only if it died by itself and had all that it wanted. Ctrl-C
    ends it.
    """
    if not isinstance(code, bytes):
        raise TypeError(f"code is bytes, not {type(code).__name__}")
    Params.of(params)
    path = [os.path.abspath(entry) for entry in sys.path]
    pipe = subprocess.PIPE
    orders = [sys.executable, "-I", "-c", _MAIN, json.dumps(dict(params)), *path]
    brief = {**os.environ, "RUST_BACKTRACE": "0"}  # a trace would only bury what it says
    with subprocess.Popen(orders, stdin=pipe, stdout=pipe, stderr=pipe, env=brief) as child:
        try:
            said, words = child.communicate(code)
        except BaseException:
            child.kill()
            raise
    if child.returncode == 0 and said.startswith(_MADE):
        return said[len(_MADE) :]
    if child.returncode == 0 and said.startswith(_FAILED):
        raise _error(json.loads(said[len(_FAILED) :]))
    raise _death(child.returncode, words)


def main(params: str) -> None:
    """Be the child."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    code = sys.stdin.buffer.read()
    try:
        said = _MADE + prepare(code, json.loads(params))
    except RegistryError as error:
        said = _FAILED + json.dumps(_told(error)).encode()
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()
    os._exit(0)


def _told(error: RegistryError) -> dict[str, Any]:
    told: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, PrepareError):
        told |= {
            "kind": error.kind,
            "deterministic": error.deterministic,
            "remembered": error.remembered,
        }
    return told


def _error(told: dict[str, Any]) -> RegistryError:
    kind, message = told.pop("type"), told.pop("message")
    if kind == PrepareError.__name__:
        return PrepareError(message, **told)
    return CodeTooLarge(message) if kind == CodeTooLarge.__name__ else RegistryError(message)


def _death(status: int, words: bytes) -> PrepareError:
    how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    said = words[-_LAST_WORDS:].decode(errors="replace").strip()
    blameless = is_death_by_shortage(-status if status < 0 else None, words)
    return PrepareError(
        f"the compiler {how}" + (f" (its last words: {said!r})" if said else ""),
        kind="job_died",
        deterministic=False,
        remembered=not blameless,
    )
