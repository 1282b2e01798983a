"""From code to an artifact: the parameters, what the artifact depends on, and the compiling.

An artifact loads only into an engine that is set up as the one that compiled it was, and
`execute` is not told how that was. So there is one set-up for all, in `new_engine`. It has epoch
interruption switched on, because what runs must be stoppable from outside (a time limit, Ctrl-C):
measured, that costs 1 or 2 % of the speed of tight loops. Fuel would stop the code too, but its
being on or off would split the artifacts in two kinds that do not load into each other's engine.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from registry.artifact import ArtifactId
from registry.errors import InvalidParams, PrepareError
from registry.wasm.code import CODE_LIMIT, decompressed
from registry.wasm.extra import extra

if TYPE_CHECKING:
    import wasmtime

__all__ = [
    "BY_THE_SYSTEM",
    "OPT_LEVELS",
    "Params",
    "artifact_id",
    "identity",
    "new_engine",
    "prepare",
]

OPT_LEVELS = ("none", "speed", "speed_and_size")

_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
# How wasmtime's messages end where a call into the system failed. Only the end counts: an error in
# text quotes the text.
BY_THE_SYSTEM = re.compile(r"\(os error (\d+)\)\s*\Z")
_EMPTY_MODULE = b"\0asm\1\0\0\0"
_compiling_process: int | None = None


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of a preparation. `code_limit` (bytes) does not change the artifact."""

    opt_level: str = "speed"
    code_limit: int = CODE_LIMIT

    def __post_init__(self) -> None:
        if self.opt_level not in OPT_LEVELS:
            raise InvalidParams(
                f"opt_level is {self.opt_level!r}; it is one of {', '.join(OPT_LEVELS)}"
            )
        if type(self.code_limit) is not int or self.code_limit < 1:
            raise InvalidParams(f"code_limit is {self.code_limit!r}; it is a number of bytes")

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Params:
        """Check the parameters; raises `InvalidParams` for an unknown name or a wrong value."""
        if not isinstance(params, Mapping):
            raise TypeError(f"params is a mapping, not {type(params).__name__}")
        known = [field.name for field in fields(cls)]
        for name in params:
            if name not in known:
                raise InvalidParams(
                    f"there is no parameter {name!r}; the parameters are {', '.join(known)}"
                )
        return cls(**params)


def identity(params: Mapping[str, Any] = _NO_PARAMS) -> Mapping[str, Any]:
    """Say all that an artifact depends on besides its code; the prep_hash is made of it.

    Raises `InvalidParams`. Takes milliseconds the first time in a process, then nothing.
    """
    return _identity(Params.of(params).opt_level)


def artifact_id(code: bytes, params: Mapping[str, Any] = _NO_PARAMS) -> ArtifactId:
    """Name the artifact that `prepare` makes of this code under these parameters, here."""
    return ArtifactId.of(code, identity(params))


def prepare(code: bytes, params: Mapping[str, Any] = _NO_PARAMS) -> bytes:
    """Compile WebAssembly or its text, plain or compressed, into an artifact for this machine.

    Raises `CodeTooLarge` over the parameter `code_limit`, and `PrepareError` with wasmtime's
    message for code that it refuses: deterministic, unless the system was at fault. Memory and
    time are NOT bounded, Ctrl-C waits for the end, and a compiler that is refused a thread aborts
    this process: `prepare_in_child` compiles in one that may die.
    """
    wanted = Params.of(params)
    plain = decompressed(code, wanted.code_limit)
    with extra():
        import wasmtime
    try:
        parallel = _may_compile_in_parallel()
        engine = new_engine(wanted.opt_level, parallel=parallel)
        return bytes(wasmtime.Module(engine, plain).serialize())
    except wasmtime.WasmtimeError as error:
        raise _failure(str(error)) from None


def new_engine(opt_level: str = "speed", *, parallel: bool = False) -> wasmtime.Engine:
    """Make an engine as all artifacts need it; the level of optimisation is free at loading.

    Where it may compile in parallel, wasmtime starts a thread for each core, and aborts the process
    if it is refused one. It changes nothing of an artifact.
    """
    with extra():
        import wasmtime
    config = wasmtime.Config()
    config.cranelift_opt_level = opt_level
    config.epoch_interruption = True
    config.parallel_compilation = parallel
    return wasmtime.Engine(config)


@cache
def _identity(opt_level: str) -> Mapping[str, Any]:
    from importlib.metadata import version

    stamp = _stamp(opt_level)
    return MappingProxyType(
        {
            "backend": "wasmtime",
            "version": version("wasmtime"),
            "target": f"{platform.machine()}-{sys.platform}",
            "opt_level": opt_level,
            "engine": stamp,
        }
    )


def _stamp(opt_level: str) -> str:
    """Hash the artifact of an empty module.

    It holds all that wasmtime compares when it loads one (the target triple, every feature of the
    processor that its compiler uses, every setting that changes the code), and nothing else. So
    where the stamp is the same, artifacts can be shared.
    """
    with extra():
        import wasmtime
    empty = wasmtime.Module(new_engine(opt_level), _EMPTY_MODULE).serialize()
    return blake2b(empty, digest_size=16).hexdigest()


def _may_compile_in_parallel() -> bool:
    """Say whether the threads that wasmtime compiles with are alive in this process.

    They are started once, and a child made by fork inherits the belief that they run, but not the
    threads: it would wait for them without end. There, compile in the calling thread.
    """
    global _compiling_process
    _compiling_process = _compiling_process or os.getpid()
    return _compiling_process == os.getpid()


def _failure(message: str) -> PrepareError:
    """Tell what the system refused (memory, mostly), which may pass, from what the code is."""
    if BY_THE_SYSTEM.search(message):
        return PrepareError(message, kind="kernel", deterministic=False, remembered=False)
    return PrepareError(message, kind="preparation")
