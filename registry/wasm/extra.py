"""The packages of the extra "wasm", imported when they are first needed and not before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import RegistryError

__all__ = ["extra", "preload"]

_PACKAGES = frozenset({"wasmtime", "zstandard"})


@contextmanager
def extra() -> Iterator[None]:
    """Import inside this; raises `RegistryError` with what to install where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise RegistryError(
            f"WebAssembly needs {error.name}, which is not installed; "
            "`pip install 'compile-registry[wasm]'`"
        ) from None


def preload() -> None:
    """Import them now, so that processes forked from this one need not."""
    with extra():
        import wasmtime  # noqa: F401
        import zstandard  # noqa: F401
