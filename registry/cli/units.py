"""Read and write sizes and durations.

There are two forms: the exact one ("10GiB", "1d12h") reads back as the same value; the near one
("2.4 MiB", "3h ago") is for tables. Reading is exact, without floats.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from registry.sizes import BINARY, near_size

__all__ = [
    "coarse_span",
    "exact_size",
    "exact_span",
    "near_age",
    "near_command",
    "near_size",
    "near_span",
    "parse_size",
    "parse_span",
]

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BYTES = {name.lower(): 1024**power for power, name in enumerate(BINARY)} | {
    name.lower(): 1000**power for power, name in enumerate(_DECIMAL)
}
# No single letters: guessing whether 5G is 10^9 or 2^30 would delete files.
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-z]*)", re.IGNORECASE)
_SIZE_FORMS = "write it as 5GiB, 500MB, 1.5 GiB or a whole number of bytes"

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
_SPAN = re.compile(r"\s*".join(rf"(?:([0-9]{{1,15}}){unit})?" for unit in _UNITS), re.IGNORECASE)
_SPAN_FORMS = "write it as 12h, 90m, 1d12h, 30s or 0"


def parse_size(text: str) -> int:
    """Read a size in bytes, rounded down. Raises `ValueError` with the accepted forms."""
    from fractions import Fraction

    match = _SIZE.fullmatch(text.strip())
    unit = match and _BYTES.get(match[2].lower() or "b")
    if not match or not unit:
        raise ValueError(f"{text[:40]!r} is not a size; {_SIZE_FORMS}")
    return int(Fraction(match[1]) * unit)


def parse_span(text: str) -> timedelta:
    """Read a duration. Raises `ValueError` with the accepted forms."""
    text = text.strip()
    match = _SPAN.fullmatch("0s" if text == "0" else text)
    if not text or not match:
        raise ValueError(f"{text[:40]!r} is not a duration; {_SPAN_FORMS}")
    counts = zip(match.groups("0"), _UNITS.values(), strict=True)
    try:
        return sum((int(count) * unit for count, unit in counts), timedelta(0))
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is too long; {_SPAN_FORMS}") from None


def exact_size(size: int) -> str:
    """Write a size so that `parse_size` reads back the same number of bytes."""
    power = 0
    while size and size % 1024 == 0 and power + 1 < len(BINARY):
        size //= 1024
        power += 1
    return f"{size}{BINARY[power]}"


def exact_span(span: timedelta) -> str:
    """Write a duration so that `parse_span` reads back the same."""
    parts = []
    for name, unit in _UNITS.items():
        count, span = divmod(span, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0"


def near_span(seconds: float) -> str:
    """Write a running time: "0.3 ms", "12 ms", "3.4 s", "2m5s"."""
    # At each limit the next number would have one digit too many.
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return exact_span(timedelta(seconds=round(seconds)))


def near_age(then: datetime, now: datetime) -> str:
    """Write the time since or until a moment: "3h ago", "in 15m"."""
    span = coarse_span(abs(now - then))
    return f"in {span}" if then > now else f"{span} ago"


def coarse_span(span: timedelta) -> str:
    """Write a span in its largest unit: "3h"."""
    unit = next((name for name in "dhms" if span >= _UNITS[name]), "s")
    return f"{span // _UNITS[unit]}{unit}"


def near_command(command: str, width: int) -> str:
    """Write a command line without the folders of its files, cut to a width."""
    shown = " ".join(
        (word.rstrip("/").rpartition("/")[2] or "/") if word.startswith("/") else word
        for word in command.split(" ")
    )
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."
