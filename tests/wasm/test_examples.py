"""The modules in examples/ do what their first lines say."""

import runpy
from pathlib import Path

import pytest

from registry import wasm

EXAMPLES = Path(__file__).parents[2] / "examples"
NEWLINE = b"\n"


@pytest.fixture(scope="module")
def primes(tmp_path_factory: pytest.TempPathFactory) -> wasm.Program:
    return _loaded((EXAMPLES / "primes.wat").read_bytes(), tmp_path_factory)


@pytest.fixture(scope="module")
def unrolled(tmp_path_factory: pytest.TempPathFactory) -> wasm.Program:
    module = runpy.run_path(str(EXAMPLES / "unrolled.py"))["module"]
    return _loaded(module().encode(), tmp_path_factory)


def _loaded(code: bytes, folders: pytest.TempPathFactory) -> wasm.Program:
    path = folders.mktemp("example") / "artifact"
    path.write_bytes(wasm.prepare(code))
    return wasm.load(path)


def call(program: wasm.Program, name: str, *args: int) -> int | float:
    (value,) = program.run({"invoke": name, "args": args})["values"]
    return value


@pytest.mark.parametrize("example", ["primes", "unrolled"])
def test_primes_are_counted(example: str, request: pytest.FixtureRequest) -> None:
    program = request.getfixturevalue(example)
    limits = (0, 1, 2, 3, 10, 100, 65537, 1_000_000)
    counts = [call(program, "count_primes", limit) for limit in limits]
    assert counts == [0, 0, 1, 2, 4, 25, 6543, 78498]


@pytest.mark.parametrize("example", ["primes", "unrolled"])
def test_primes_are_told_from_products(example: str, request: pytest.FixtureRequest) -> None:
    program = request.getfixturevalue(example)
    for prime in (2, 3, 5, 65521, 65537, 1_000_000_007, 2**32 - 5):
        assert call(program, "is_prime", prime) == 1
    for other in (0, 1, 4, 9, 561, 65521**2, 65519 * 65521, 2**32 - 1):
        assert call(program, "is_prime", other) == 0


def test_primes_of_64_bits_are_told_too(primes: wasm.Program) -> None:
    assert call(primes, "is_prime", 2**61 - 1) == 1
    assert call(primes, "is_prime", 2**64 - 59) == 1
    assert call(primes, "is_prime", (2**31 - 1) * (2**32 - 5)) == 0
    assert call(primes, "is_prime", 3_825_123_056_546_413_051) == 0  # passes witnesses 2 to 23


def test_the_other_questions_about_primes(primes: wasm.Program) -> None:
    assert [call(primes, "nth_prime", rank) for rank in (1, 2, 25, 10001)] == [2, 3, 97, 104743]
    assert [call(primes, "count_twins", limit) for limit in (4, 5, 7, 100, 1000)] == [
        0,
        1,
        2,
        8,
        35,
    ]
    assert [call(primes, "largest_factor", n) for n in (0, 1, 2, 9, 97, 600851475143)] == [
        *(0, 0, 2, 3, 97, 6857)
    ]


def test_what_a_sieve_cannot_hold_is_a_trap(primes: wasm.Program) -> None:
    for limit in (2**31, 2**32 - 1):
        with pytest.raises(wasm.Trap) as trap:
            call(primes, "count_primes", limit)
        assert trap.value.code == "unreachable"


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"one", b" two words\n\ttwo  lines\r\n", b"long " * 30_000, b"\xff\0 \x80"]
)
def test_wc_counts_as_wc_does(text: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = _loaded((EXAMPLES / "wc.wat").read_bytes(), tmp_path_factory)
    expected = f"{text.count(NEWLINE)} {len(text.split())} {len(text)}\n"
    assert program.run({"stdin": text})["stdout"].decode() == expected
