"""What a module can access: only what the request names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.wasm.errors import InvalidRequest
from registry.wasm.request import Request
from registry.wasm.streams import Streams, name_of

if TYPE_CHECKING:
    import wasmtime

__all__ = ["sandbox"]


def sandbox(request: Request, streams: Streams) -> wasmtime.WasiConfig:
    """Set up WASI as the request says; raises `InvalidRequest` for a directory that is none."""
    import wasmtime

    config = wasmtime.WasiConfig()
    config.argv = request.command_line
    config.env = request.env.items()
    _connect(config, request, streams)
    for name, path in request.dirs.items():
        _open_directory(config, path, name, writable=False)
    for name, path in request.writable_dirs.items():
        _open_directory(config, path, name, writable=True)
    return config


def _connect(config: wasmtime.WasiConfig, request: Request, streams: Streams) -> None:
    if request.ambient and request.stdin is None:
        config.inherit_stdin()
    else:
        config.stdin_file = name_of(streams.stdin)
    if request.ambient:
        config.inherit_stdout()
        config.inherit_stderr()
    else:
        config.stdout_file = name_of(streams.stdout)
        config.stderr_file = name_of(streams.stderr)


def _open_directory(config: wasmtime.WasiConfig, path: str, name: str, *, writable: bool) -> None:
    import wasmtime

    try:
        config.preopen_dir(path, name, fs_mutable=writable)
    except wasmtime.WasmtimeError:
        raise InvalidRequest(
            f"{path!r}, which the module is to see as {name!r}, is no directory that can be opened"
        ) from None
