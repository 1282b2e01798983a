"""Artifacts made of a few lines of WebAssembly text, and the guests that several tests run."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from registry import wasm


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[str], Path]:
    """Compile text into an artifact, and give its path."""
    numbers = count()

    def prepare(text: str) -> Path:
        path = tmp_path / f"{next(numbers)}.pvf"
        path.write_bytes(wasm.prepare(text.encode()))
        return path

    return prepare
