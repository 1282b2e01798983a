"""Without the extra "wasm": what is missing is named, and what to do about it."""

from __future__ import annotations

import sys

import pytest

from registry import RegistryError
from registry.wasm.extra import extra, preload


@pytest.mark.parametrize("package", ["wasmtime", "zstandard"])
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RegistryError, match=rf"{package}.*install 'compile-registry\[wasm\]'"):
        preload()


def test_what_else_is_missing_is_not_of_our_wording() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), extra():
        import no_such_package  # noqa: F401
