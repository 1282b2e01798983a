"""A backend that works: it keeps the code, and answers with the artifact and the request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": "echo", **params}


def prepare(code: bytes, params: Mapping[str, Any]) -> bytes:
    return code + repr(sorted(params.items())).encode()


def execute(path: Path, request: Any) -> Any:
    return [path.read_bytes(), request]
