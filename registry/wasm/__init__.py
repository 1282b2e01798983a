"""The WebAssembly backend: code compiled by wasmtime, kept as an artifact, loaded and run.

A backend is three functions. `identity(params)` says what an artifact depends on besides its
code, `prepare(code, params)` makes the artifact, and `execute(path, request)` runs it. None of
them knows the registry:

    id = wasm.artifact_id(code)
    artifact = cache.get_or_prepare(id, lambda: wasm.prepare(code))
    wasm.execute(artifact.path, {"invoke": "count_primes", "args": [1_000_000]})

Parameters: `opt_level` ("none", "speed", "speed_and_size"; "speed" by default), and `code_limit`
(bytes, 12 MiB by default), which is no part of the identity. `Request` says what can be asked for,
`Result` what is returned; `as_json` makes a result fit for JSON. wasmtime and zstandard (the extra
"wasm") are imported when they are first needed.

What runs is confined by WebAssembly itself, and by a memory and a time limit if the request sets
them. It is NOT confined against a fault in wasmtime, nor is compiling bounded in memory or time;
and wasmtime's binding for Python ends the whole process where a function with v128 or garbage
collected references in its type is invoked. Code of strangers belongs into a process of its own:
`prepare_in_child` compiles in one, and `registry.host.Host` does all in workers.
"""

from __future__ import annotations

from registry.wasm.child import prepare_in_child
from registry.wasm.code import CODE_LIMIT, check_code
from registry.wasm.compiler import artifact_id, identity, prepare
from registry.wasm.errors import ArtifactRejected, InvalidRequest, Trap
from registry.wasm.extra import preload
from registry.wasm.program import Program, execute, load
from registry.wasm.request import Request, Result, as_json

__all__ = [
    "CODE_LIMIT",
    "KIND",
    "ArtifactRejected",
    "InvalidRequest",
    "Program",
    "Request",
    "Result",
    "Trap",
    "artifact_id",
    "as_json",
    "check_code",
    "execute",
    "identity",
    "load",
    "preload",
    "prepare",
    "prepare_in_child",
]

KIND = "wasm"  # what its artifacts are called in `registry ls --kind` and the metrics
