"""Each verb of the handle in one line, for what holds of all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from registry import ArtifactId, AsyncRegistry

from .making import prepare

__all__ = ["VERBS"]

VERBS: dict[str, Callable[[AsyncRegistry, ArtifactId], Awaitable[Any]]] = {
    "get": lambda r, code: r.get(code),
    "need": lambda r, code: r.need(code),
    "claim": lambda r, code: r.claim(code),
    "wait": lambda r, code: r.wait(code),
    "get_or_prepare": lambda r, code: r.get_or_prepare(code, prepare),
    "open_file": lambda r, code: r.open_file(code),
    "read": lambda r, code: r.read(code),
    "put": lambda r, code: r.put(code, b"data"),
    "artifacts": lambda r, code: anext(r.artifacts()),
    "history": lambda r, code: r.history(code),
    "events": lambda r, code: anext(r.events()),
    "find": lambda r, code: r.find(code.code_hash),
    "remove": lambda r, code: r.remove(code),
    "remove_all": lambda r, code: r.remove_all(),
    "retry": lambda r, code: r.retry(code),
    "prune": lambda r, code: r.prune(),
    "stats": lambda r, code: r.stats(),
    "check": lambda r, code: r.check(),
    "hosts": lambda r, code: r.hosts(),
    "diagnose": lambda r, code: r.diagnose(),
    "settings": lambda r, code: r.settings(),
    "configure": lambda r, code: r.configure(cache_limit=1),
    "maintain": lambda r, code: r.maintain(),
}
