"""A statement: SQL with a name and one sentence of English; how a file of statements is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Statement", "parse", "render"]

_HEAD = re.compile(r"-- name: (?P<name>[^(\n]+?)(?: \((?P<traits>[a-z, ]+)\))?\n-- (?P<says>.+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement's name, one sentence that explains it, and its SQL with `:named` parameters.

    `durable` statements run on a connection that syncs the WAL before it returns. Each DELETE
    before an unlink is one: otherwise a row could come back after a power cut, and name a file that
    is gone. Those with `writes` may require a checkpoint of the WAL afterwards.
    """

    name: str
    says: str
    sql: str
    writes: bool = False
    durable: bool = False


def render(statements: Iterable[Statement]) -> str:
    """Write statements as a file, for people and for `parse`."""
    return "\n\n".join(_block(each) for each in statements) + "\n"


def parse(text: str) -> dict[str, Statement]:
    """Read the statements of a file that `render` wrote, by name; a duplicate is a bug."""
    found: dict[str, Statement] = {}
    for block in text.strip().split(";\n\n"):
        head = _HEAD.match(block)
        assert head is not None, block
        assert head["name"] not in found, block
        traits = (head["traits"] or "").split(", ")
        sql = block[head.end() :].strip().removesuffix(";")
        found[head["name"]] = Statement(
            head["name"], head["says"], sql, "writes" in traits, "durable" in traits
        )
    return found


def _block(statement: Statement) -> str:
    traits = [name for name in ("writes", "durable") if getattr(statement, name)]
    kind = f" ({', '.join(traits)})" if traits else ""
    return f"-- name: {statement.name}{kind}\n-- {statement.says}\n{statement.sql};"
