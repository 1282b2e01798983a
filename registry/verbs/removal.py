"""Remove many: all artifacts, those of one code, those of one kind."""

from __future__ import annotations

import json

from registry.artifact import ArtifactId, code_hash_of, names
from registry.effects import Now, Verb
from registry.errors import CacheDirectoryRefused
from registry.sql.queries import (
    REMOVABLE,
    REMOVABLE_OF_CODE,
    REMOVABLE_OF_KIND,
    REMOVE_SEVERAL,
    Row,
)
from registry.verbs.database import delete, run
from registry.verbs.handle import Handle
from registry.verbs.history import ended, record
from registry.verbs.lease import settle, unlinking_if_cut_short
from registry.verbs.prune import unlink_all
from registry.verbs.text import as_kind

__all__ = ["remove_all"]

_BATCH = 100  # a failed one may hold 64 KiB of an error


def remove_all(handle: Handle, code: bytes | str | None, kind: str | None) -> Verb[int]:
    """Delete the prepared and the failed, the rows before their files; how many there were."""
    only = as_kind(kind)
    of_code = None if code is None else code_hash_of(code)
    yield from settle(handle)
    found = REMOVABLE_OF_KIND if only is not None else REMOVABLE
    if of_code is not None:
        found = REMOVABLE_OF_CODE
    guard = {"code": of_code, "only": only}
    removed, refusal, more = 0, None, True
    while more:
        rows = [Row(*row) for row in (yield from run(found, {**guard, "most": _BATCH}))]
        gone, refused = yield from _remove(handle, rows, guard)
        removed, refusal, more = removed + gone, refused or refusal, len(rows) == _BATCH
    if refusal is not None:
        raise refusal
    return removed


def _remove(
    handle: Handle, rows: list[Row], guard: dict[str, str | None]
) -> Verb[tuple[int, CacheDirectoryRefused | None]]:
    now = yield from Now()
    ids = json.dumps([row.id for row in rows])
    work = delete(REMOVE_SEVERAL, {**guard, "ids": ids})
    gone = (yield from unlinking_if_cut_short(rows, work)).rows
    refusal = yield from unlink_all(gone)
    for row in gone:
        if names(row.code_hash, row.prep_hash):
            handle.hot.pop(ArtifactId(row.code_hash, row.prep_hash), None)
    yield from record(handle, map(ended, gone), "removed", now)
    return len(gone), refusal
