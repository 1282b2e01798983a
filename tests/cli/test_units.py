"""Sizes and durations: what people may write, and that what is written reads back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cli.units import (
    exact_size,
    exact_span,
    near_age,
    near_command,
    near_size,
    near_span,
    parse_size,
    parse_span,
)

SIZES = st.integers(0, 2**63 - 1)
SPANS = st.timedeltas(min_value=timedelta(0))
NOW = datetime(2025, 1, 1, tzinfo=UTC)


def _complaint(parse: Callable[[str], object], text: str) -> str | None:
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GiB", 5 * 1024**3),
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("1024", 1024),
        ("1024B", 1024),
        ("1.5 GiB", 3 * 1024**3 // 2),
        (" 1KiB ", 1024),
        ("0", 0),
        ("0.3B", 0),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "5G", "5X", "-1", "+1", "1e9", "1.", ".5", "1,5GB", "1 2", "٣", "MB", "9" * 99],
)
def test_what_is_no_size_is_answered_with_the_forms_it_may_have(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 5GiB, 500MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("1d 12h 5m 2s", timedelta(days=1, hours=12, minutes=5, seconds=2)),
        ("30S", timedelta(seconds=30)),
        ("250ms", timedelta(milliseconds=250)),
        ("0", timedelta(0)),
        ("0h", timedelta(0)),
    ],
)
def test_a_duration_is_read(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text", ["", " ", "12", "00", "h", "-1h", "1.5h", "1h1d", "1h1h", "1y", "1 h", "9" * 15 + "d"]
)
def test_what_is_no_duration_is_answered_with_the_forms_it_may_have(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 12h, 90m, 1d12h, 30s or 0"):
        parse_span(text)


@given(SIZES)
def test_an_exact_size_reads_back(size: int) -> None:
    assert parse_size(exact_size(size)) == size


@given(SPANS)
def test_an_exact_duration_reads_back(span: timedelta) -> None:
    assert parse_span(exact_span(span)) == span


@given(SIZES)
def test_a_near_size_is_near(size: int) -> None:
    text = near_size(size)
    assert len(text) <= len("1023.9 KiB")
    assert abs(parse_size(text) - size) <= size / 20


@given(st.fractions(0, 10**6), st.sampled_from(["B", "KiB", "MB"]))
def test_a_fraction_of_a_byte_is_dropped_exactly(number: Fraction, unit: str) -> None:
    digits = f"{int(number)}.{int(number % 1 * 10**9):09}"
    scale = {"B": 1, "KiB": 1024, "MB": 1000**2}[unit]
    assert parse_size(digits + unit) == int(Fraction(digits) * scale)


@given(st.text())
def test_any_text_is_read_or_answered_with_the_forms(text: str) -> None:
    for parse in (parse_size, parse_span):
        assert "write it as" in (_complaint(parse, text) or "write it as")


def test_exact_forms_are_the_ones_that_people_write() -> None:
    assert exact_size(10 * 1024**3) == "10GiB"
    assert exact_size(1000) == "1000B"
    assert exact_span(timedelta(hours=36)) == "1d12h"
    assert exact_span(timedelta(0)) == "0"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
    ],
)
def test_a_size_in_a_table_is_short(size: int, text: str) -> None:
    assert near_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.00034, "0.3 ms"),
        (0.0123, "12 ms"),
        (0.9999, "1.0 s"),
        (3.44, "3.4 s"),
        (59.97, "1m"),
        (125, "2m5s"),
    ],
)
def test_what_something_took_is_short(seconds: float, text: str) -> None:
    assert near_span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s ago"), (59.9, "59s ago"), (60, "1m ago"), (7300, "2h ago"), (-900, "in 15m")],
)
def test_an_age_tells_its_largest_unit(seconds: float, text: str) -> None:
    assert near_age(NOW - timedelta(seconds=seconds), NOW) == text


def test_a_command_line_is_shown_by_its_useful_part() -> None:
    line = "/srv/app/.venv/bin/python3 /srv/app/.venv/bin/gunicorn web:app -b 0.0.0.0:80"
    assert near_command(line, 60) == "python3 gunicorn web:app -b 0.0.0.0:80"
    assert near_command(line, 20) == "python3 gunicorn ..."
    assert near_command("/srv/ a/b", 60) == "srv a/b"
    assert near_command("", 60) == ""
    assert near_command("/bin/find / -name x", 60) == "find / -name x"
    assert near_command("ls // /", 60) == "ls / /"
