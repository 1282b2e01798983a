"""What the library logs, under the logger "registry": words for people, fields for programs.

Each record has an `event`, and what belongs to it, as attributes (`extra` of the standard library);
those of an artifact have `code_hash` and `prep_hash`. `docs/logging.md` names them all. A library
sets up no handlers and no levels.
"""

from __future__ import annotations

import logging

from registry.artifact import ArtifactId

__all__ = ["FIELDS", "about", "in_one_line", "logger"]

logger = logging.getLogger("registry")

# Every field that a record may have, for handlers that store records.
FIELDS = (
    "event",
    "code_hash",
    "prep_hash",
    "label",
    "size",
    "prepare_seconds",
    "reason",
    "error",
    "error_kind",
    "num_failures",
    "fault",
    "holder_pid",
    "holder_hostname",
    "since",
    "prepare_seconds_before",
    "prepared_bytes",
    "cache_limit",
    "untold",
    "count",
    "place",
)


def about(event: str, id: ArtifactId | None = None, **fields: object) -> dict[str, object]:
    """Return the fields of a record."""
    named = {} if id is None else {"code_hash": id.code_hash, "prep_hash": id.prep_hash}
    return {"event": event, **named, **fields}


def in_one_line(text: object) -> str:
    """Escape line breaks and terminal control characters; the fields keep them."""
    return "".join(it if it.isprintable() else repr(it)[1:-1] for it in str(text))
