"""A prepared artifact, loaded and run in this process.

The code runs in a thread of its own while the caller waits, so that a time limit and Ctrl-C can
reach it: both raise the engine's epoch, which stops the code at its next loop or call. A call
into the system (sleeping, reading a terminal) is beyond their reach.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from registry.errors import InternalError
from registry.shortage import SHORT_OF
from registry.wasm.compiler import BY_THE_SYSTEM, new_engine
from registry.wasm.errors import ArtifactRejected, InvalidRequest, Trap
from registry.wasm.extra import extra
from registry.wasm.request import NUMBERS, Request, Result, as_numbers
from registry.wasm.sandbox import sandbox
from registry.wasm.streams import Streams, name_of
from registry.wasm.supervised import supervised

if TYPE_CHECKING:
    import wasmtime

__all__ = ["Program", "execute", "load"]

_NO_REQUEST: Mapping[str, Any] = MappingProxyType({})
_COMMAND = "_start"  # what a WASI command exports to be run,
_LIBRARY = "_initialize"  # and what a WASI library wants called before anything else
# Any other error of the system, such as EINVAL for a file of no bytes, is about the file.
_REFUSALS = {*SHORT_OF, errno.EACCES, errno.EPERM}
_TABLE_ELEMENT = 8  # bytes


def execute(artifact: PathLike[str] | BinaryIO, request: Mapping[str, Any] = _NO_REQUEST) -> Result:
    """Load an artifact and run it once; `Request` says what can be asked."""
    return load(artifact).run(request)


def load(artifact: PathLike[str] | BinaryIO) -> Program:
    """Load what `prepare` made, from a path or an open file, which may be closed afterwards.

    Raises `ArtifactRejected` for what this wasmtime cannot load, and `InternalError` where it is
    the machine that refuses: no memory, or a file system that is mounted noexec. A damaged or
    forged artifact is NOT detected, and is run: load only what agrees with its checksum.
    """
    if isinstance(artifact, PathLike):
        with open(artifact, "rb") as file:
            return load(file)
    if not hasattr(artifact, "fileno"):
        raise TypeError(f"artifact is a Path or an open file, not {type(artifact).__name__}")
    with extra():
        import wasmtime
    engine = new_engine()
    try:
        return Program(engine, wasmtime.Module.deserialize_file(engine, name_of(artifact)))
    except wasmtime.WasmtimeError as error:
        raise _unloadable(artifact, str(error)) from None


def _unloadable(artifact: BinaryIO, why: str) -> ArtifactRejected | InternalError:
    """Tell what this machine refused (memory, or to execute a file) from what the file is."""
    if os.statvfs(artifact.fileno()).f_flag & os.ST_NOEXEC:
        return InternalError(
            "the file system of the cache is mounted noexec, so that nothing there can be loaded; "
            f"mount it without noexec, or keep the cache elsewhere. The artifact is kept. ({why})",
            kind="noexec",
        )
    refusal = BY_THE_SYSTEM.search(why)
    if refusal is not None and int(refusal[1]) in _REFUSALS:
        kind = "out_of_memory" if int(refusal[1]) == errno.ENOMEM else "io_err"
        said = f"this machine refused to load the artifact, which is kept: {why}"
        return InternalError(said, kind=kind)
    return ArtifactRejected(f"wasmtime cannot load it; prepare it again: {why}")


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded artifact, to be run any number of times; an interruption stops all its runs."""

    engine: wasmtime.Engine
    module: wasmtime.Module

    def run(self, request: Mapping[str, Any] = _NO_REQUEST) -> Result:
        """Run it once, with nothing left of earlier runs, and say what came of it.

        Raises `InvalidRequest` before any of its code has run, and `Trap`.
        """
        wanted = Request.of(request)
        name, arguments = self._entry(wanted)
        instance = self._linked()
        with Streams.holding(wanted.stdin or b"") as streams:
            store = self._store(wanted, streams)
            job = partial(_call, store, instance, name, arguments)
            try:
                values, exit_code = supervised(job, self.interrupt, wanted.time_limit)
            except Trap as trap:
                trap.stdout, trap.stderr = streams.written()
                raise
            stdout, stderr = streams.written()
        return Result(values=values, exit_code=exit_code, stdout=stdout, stderr=stderr)

    def interrupt(self) -> None:
        """Stop what is being run of this program, from any thread: `run` raises `Trap` there."""
        self.engine.increment_epoch()

    def _entry(self, request: Request) -> tuple[str, list[int | float]]:
        """Find the requested function, and read its arguments."""
        functions = self._functions()
        name = _COMMAND if request.invoke is None else request.invoke
        if name in functions:
            return name, [] if request.invoke is None else _arguments(functions[name], request)
        if request.invoke is None:
            raise InvalidRequest(
                f"the module has no {name}, so it is no WASI command; {_invite(functions)}"
            )
        raise InvalidRequest(f"the module has no function {name!r}; {_invite(functions)}")

    def _functions(self) -> dict[str, wasmtime.FuncType]:
        import wasmtime

        types = ((export.name, export.type) for export in self.module.exports)
        return {name: type_ for name, type_ in types if isinstance(type_, wasmtime.FuncType)}

    def _linked(self) -> wasmtime.InstancePre:
        """Give the module its imports: those of WASI preview 1, and no others."""
        import wasmtime

        linker = wasmtime.Linker(self.engine)
        linker.define_wasi()
        try:
            return linker.instantiate_pre(self.module)
        except wasmtime.WasmtimeError as error:
            raise InvalidRequest(
                f"the module needs more than WASI, and cannot be run by itself: {error}"
            ) from None

    def _store(self, request: Request, streams: Streams) -> wasmtime.Store:
        """Set up what the run's memories live in, and what bounds it."""
        import wasmtime

        store = wasmtime.Store(self.engine)
        store.set_epoch_deadline(1)
        store.set_wasi(sandbox(request, streams))
        limit = request.memory_limit
        if limit is not None:
            store.set_limits(memory_size=limit, table_elements=limit // _TABLE_ELEMENT)
        return store


def _arguments(type_: wasmtime.FuncType, request: Request) -> list[int | float]:
    """Read the arguments of a function whose values, too, are numbers that can be told."""
    for result in map(str, type_.results):
        if result not in NUMBERS:
            raise InvalidRequest(f"{request.invoke} gives a {result}, which cannot be told")
    return as_numbers(request.args, [str(param) for param in type_.params])


def _call(
    store: wasmtime.Store,
    instance: wasmtime.InstancePre,
    name: str,
    arguments: Sequence[int | float],
) -> tuple[list[int | float], int]:
    """Run the function, in the thread that is made for it; give its values and the exit code."""
    import wasmtime

    try:
        exports = instance.instantiate(store).exports(store)
        if isinstance(initialize := exports.get(_LIBRARY), wasmtime.Func):
            initialize(store)
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        values = function(store, *arguments)
    except wasmtime.ExitTrap as status:
        return [], status.code
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise _trap(error) from None
    if values is None:
        return [], 0
    return (values if isinstance(values, list) else [values]), 0


def _trap(error: Exception) -> Trap:
    """Keep wasmtime's message, and its word for the reason where it has one."""
    code = getattr(error, "trap_code", None)
    return Trap(str(error).strip(), code=code and code.name.lower())


def _invite(functions: Mapping[str, Any]) -> str:
    names = sorted(functions)
    if not names:
        return "it has no functions to invoke"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"it has these functions to invoke: {', '.join(names[:20])}{more}"
