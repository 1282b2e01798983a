"""What must hold after every single effect, whatever was interleaved and whatever failed.

The rules look at nothing but the world itself: the rows and the bytes of the files before and after
an effect, and who asked for it. They know none of the product's code, and none of its reasons. Each
has a name, a promise in English, so that a test can say which promise a deliberate fault breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

import xxhash

from registry.artifact import State
from registry.effects import Effect, Run, Unlink
from registry.sql.queries import Row

from .content import maker

__all__ = ["Key", "Promise", "Snapshot", "Step", "Violation", "check_change", "check_state"]

Key: TypeAlias = tuple[str, str]
DELETIONS = frozenset({"prune", "remove", "discard"})


class Promise(StrEnum):
    """What `registry` promises, one sentence each."""

    FENCED = "nobody ends or publishes a claim that is not, or no longer, theirs"
    NOT_STOLEN = "a claim of a living host within its deadline is never taken over"
    HAS_ITS_FILE = "a prepared row has its file, and in it the bytes that were published"
    LIVE_FILES_STAY = "a file that a row refers to is unlinked by nobody but its claimant"
    ONE_FILE_EACH = "no two rows refer to one file"
    RESERVED_FIRST = "a file's name is in a row before the file exists"
    SUMS = "the usage is the sum of the prepared"
    LEGAL_MOVES = "rows change by the legal moves alone, as a plain model makes them"
    DOCUMENTED = "only documented errors come out of a verb"
    ENDS = "every verb comes to its end once nothing is held any more"
    NOTHING_LEAKED = "after maintenance nothing is left of the dead"
    NOT_BLOCKED = "a clock that was wrong for a while blocks nothing once it is set right"
    NOTHING_LOST = "what was published and not deleted is there"


class Violation(AssertionError):
    """A promise was broken."""

    def __init__(self, promise: Promise, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows by artifact, the sums the triggers keep, and the bytes of the files by name."""

    rows: Mapping[Key, Row] = field(default_factory=dict)
    usage: tuple[int, int] = (0, 0)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def with_file(self, name: str, data: bytes | None) -> Snapshot:
        """The same world, but for one file; None: it is gone."""
        files = {**self.files}
        files.pop(name, None)
        if data is not None:
            files[name] = data
        return replace(self, files=files)


@dataclass(frozen=True, slots=True)
class Step:
    """An effect, who asked for it, and what the verb could know of time and of who lives."""

    host_id: str
    effect: Effect[Any]
    latest: int  # a clock may jump: the latest time that the verb was told
    thought_alive: Callable[[str], bool]


def check_state(world: Snapshot, harmed: Container[str] = ()) -> None:
    """Check what must hold at any moment; `harmed` files were damaged from outside."""
    count = total = 0
    paths = [row.path for row in world.rows.values() if row.path is not None]
    if len({*paths}) < len(paths):
        raise Violation(Promise.ONE_FILE_EACH, f"{sorted(paths)}")
    for row in world.rows.values():
        if row.state == State.PREPARED:
            count, total = count + 1, total + (row.size or 0)
            if row.path not in harmed:
                _check_file(row, world.files.get(str(row.path)))
    if world.usage != (count, total):
        raise Violation(Promise.SUMS, f"the rows say {(count, total)}, usage says {world.usage}")


def check_change(before: Snapshot, after: Snapshot, step: Step) -> None:
    """Check what one effect changed."""
    if after.rows is not before.rows:
        for key in before.rows.keys() | after.rows.keys():
            was, now = before.rows.get(key), after.rows.get(key)
            if was != now:
                _check_move(was, now, before, step)
    if isinstance(step.effect, Unlink) and after.files is not before.files:
        _check_unlink(step.effect.name, after, step)


def _check_file(row: Row, data: bytes | None) -> None:
    if data is None:
        raise Violation(Promise.HAS_ITS_FILE, f"{_name(row)} is prepared, and has no file")
    found = (len(data), xxhash.xxh3_128_hexdigest(data))
    if found != (row.size, row.checksum):
        raise Violation(Promise.HAS_ITS_FILE, f"{_name(row)} is prepared, its file holds {data!r}")
    if maker(data)[0] != f"{row.code_hash}/{row.prep_hash}":
        raise Violation(Promise.HAS_ITS_FILE, f"{_name(row)} has the bytes of {maker(data)[0]}")


def _check_move(was: Row | None, now: Row | None, before: Snapshot, step: Step) -> None:
    if was is None:
        return
    if was.state == State.PREPARED:
        if now is None and _statement(step) in DELETIONS:
            return
        if now is None or now.state != State.PREPARED or now.path != was.path:
            raise Violation(Promise.NOTHING_LOST, f"{_name(was)} went by {step.effect}")
    if was.state == State.PREPARING:
        _check_end_of_claim(was, now, before, step)


def _check_end_of_claim(was: Row, now: Row | None, before: Snapshot, step: Step) -> None:
    if now is not None and now.token == was.token:
        return
    mine = was.host_id == step.host_id and _params(step).get("my_token") == was.token
    if now is not None and now.state == State.PREPARED:
        if not mine or now.path != was.path:
            raise Violation(Promise.FENCED, f"{_name(was)} published over another's claim")
        if maker(before.files.get(str(now.path), b""))[1] != step.host_id:
            raise Violation(Promise.FENCED, f"{_name(was)} published with another's file")
    elif not mine:
        _check_take_over(was, step)


def _check_take_over(was: Row, step: Step) -> None:
    if _statement(step) in ("publish", "fail", "release", "restore"):
        raise Violation(Promise.FENCED, f"{_name(was)}: {step.effect} ended another's claim")
    late = was.deadline is not None and was.deadline <= step.latest
    if not late and step.thought_alive(str(was.host_id)):
        raise Violation(Promise.NOT_STOLEN, f"{_name(was)} was taken from a living host")


def _check_unlink(name: str, after: Snapshot, step: Step) -> None:
    path = name.removesuffix(".tmp")
    for row in after.rows.values():
        if row.path != path or (row.state == State.PREPARING and row.host_id == step.host_id):
            continue
        if row.state == State.PREPARING or name == path:
            raise Violation(Promise.LIVE_FILES_STAY, f"{name} of {_name(row)} was unlinked")


def _statement(step: Step) -> str:
    return step.effect.statement.name if isinstance(step.effect, Run) else ""


def _params(step: Step) -> Mapping[str, Any]:
    return step.effect.params if isinstance(step.effect, Run) else {}


def _name(row: Row) -> str:
    return f"{row.code_hash[:6]} ({row.state}, host {(row.host_id or 'none')[:6]})"
