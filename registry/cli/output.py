"""Write results as aligned lines for people, or as one JSON document for programs.

Lists are written item by item: a cache may hold a million artifacts, and `registry ls | head` must
not read them all.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

__all__ = ["Column", "moves_the_cursor", "say", "to_json", "visible", "write", "write_list"]

T = TypeVar("T")
Column = tuple[str, str]  # title, and format of the cells: "<12", ">10"; "<12.12" also cuts them

_GAP = "  "
_LEAST = 12  # characters that a column keeps on a narrow terminal

_COLOURS = {
    "prepared": "green",
    "hit": "green",
    "preparing": "yellow",
    "miss": "yellow",
    "failed": "red",
    "error:": "red",
    "warning:": "yellow",
}


def write(document: object, lines: Iterable[str], *, as_json: bool, exact: bool = False) -> None:
    """Write one result to stdout: the document, or lines for people.

    `exact` is for output that shells read: nothing is escaped.
    """
    for line in (to_json(document),) if as_json else lines:
        sys.stdout.write((line if exact else visible(line)) + "\n")


def write_list(
    items: Iterable[T],
    columns: Sequence[Column],
    row: Callable[[T], Sequence[str]],
    *,
    as_json: bool,
) -> None:
    """Write a list to stdout: a JSON array, or a table whose header appears with its first row."""
    if not as_json and sys.stdout.isatty():
        columns = _fitting(columns, shutil.get_terminal_size().columns)
    lines = _array(items) if as_json else _aligned(columns, map(row, items))
    for line in lines:
        sys.stdout.write(line + "\n")


def say(*words: str) -> None:
    """Write a message to stderr that is no result."""
    coloured = _has_colours(sys.stderr)
    sys.stderr.write(" ".join(_painted(word, word, coloured) for word in words) + "\n")


def moves_the_cursor(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can move the cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def visible(text: str) -> str:
    """Escape control characters: names come from outside, and could forge a line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def to_json(document: object) -> str:
    """Write a document as one line of JSON in ASCII, which every encoding can hold."""
    return json.dumps(document, default=_as_document, allow_nan=False)


def _as_document(value: object) -> Any:
    """Convert a value to JSON: objects, UTC times ending in Z, seconds."""
    match value:
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
        case timedelta():
            return value.total_seconds()
        case Path():
            return str(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _object({field.name: getattr(value, field.name) for field in fields(value)})
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _object(members: Mapping[str, Any]) -> dict[str, Any]:
    """Replace an artifact's `id` by its two hashes: programs filter and join by them."""
    rest = dict(members)
    if isinstance(rest.get("id", ""), str):  # of a host, or absent
        return rest
    named = rest.pop("id")  # None: the input file could not be read
    return {"code_hash": named and named.code_hash, "prep_hash": named and named.prep_hash, **rest}


def _array(items: Iterable[object]) -> Iterator[str]:
    before = "["
    for item in items:
        yield before + to_json(item)
        before = ","
    yield "]" if before == "," else "[]"


def _aligned(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Align rows under their titles. Without rows, no titles; a wide cell shifts its line."""
    coloured = _has_colours(sys.stdout)
    for number, row in enumerate(rows):
        if number == 0:
            yield _line([title for title, _ in columns], columns, coloured)
        yield _line([visible(cell) for cell in row], columns, coloured)


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Cut the columns to the width of a terminal: the widest ones first, the last one always.

    The beginning of an id still names it, so a cut cell has no dots.
    """
    widths = [int(alignment[1:]) for _, alignment in columns[:-1]]
    room = width - len(_GAP) * len(widths)
    while room - sum(widths) < _LEAST < max(widths):
        widths[widths.index(max(widths))] -= 1
    last = max(room - sum(widths), _LEAST)
    return [
        (title, f"{alignment[:1] or '<'}{size}.{size}")
        for (title, alignment), size in zip(columns, [*widths, last], strict=True)
    ]


def _line(cells: Sequence[str], columns: Sequence[Column], coloured: bool) -> str:
    padded = (
        _painted(cell, format(cell, alignment), coloured)
        for cell, (_, alignment) in zip(cells, columns, strict=True)
    )
    return _GAP.join(padded).rstrip()


def _has_colours(stream: TextIO) -> bool:
    return moves_the_cursor(stream) and not os.environ.get("NO_COLOR")


def _painted(word: str, text: str, coloured: bool) -> str:
    if coloured and word in _COLOURS:
        return click.style(text, fg=_COLOURS[word])
    return text
