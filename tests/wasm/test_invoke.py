"""Calling an exported function: its arguments, its values, and what can stop it."""

import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from registry import wasm
from registry.wasm.request import as_numbers

Prepared = Callable[[str], Path]

ECHOES = """(module
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "swap") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0))
  (func (export "nothing"))
  (memory (export "memory") 1))"""
FOREVER = '(module (func (export "spin") (loop $again (br $again))))'


@pytest.mark.parametrize(
    ("name", "args", "values"),
    [
        ("i32", ["42"], [42]),
        ("i32", [-1], [-1]),
        ("i32", ["4294967295"], [-1]),
        ("i32", ["0xff"], [255]),
        ("i64", ["-9223372036854775808"], [-(2**63)]),
        ("i64", [2**64 - 1], [-1]),
        ("f32", ["0.5"], [0.5]),
        ("f32", ["-inf"], [-math.inf]),
        ("f64", [3], [3.0]),
        ("f64", ["1e300"], [1e300]),
        ("swap", ["1", "2.5"], [2.5, 1]),
        ("nothing", [], []),
    ],
)
def test_arguments_are_read_as_the_function_declares_them(
    prepared: Prepared, name: str, args: list, values: list
) -> None:
    result = wasm.execute(prepared(ECHOES), {"invoke": name, "args": args})
    assert result == {"values": values, "exit_code": 0, "stdout": b"", "stderr": b""}


@given(st.integers(-(2**31), 2**32 - 1))
def test_an_i32_is_read_signed_and_unsigned(number: int) -> None:
    (read,) = as_numbers([str(number)], ["i32"])
    assert -(2**31) <= read < 2**31
    assert (read - number) % 2**32 == 0


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("i32", [], r"takes 1 arguments \(i32\), not 0"),
        ("nothing", ["1"], r"takes 0 arguments \(none\), not 1"),
        ("swap", ["1", "two"], "argument 2 is 'two'; the function wants an f64"),
        ("i32", ["1.5"], "argument 1 is '1.5'; the function wants an i32"),
        ("i32", [1.0], "the function wants an i32"),
        ("i32", [None], "the function wants an i32"),
        ("f32", [b"1"], "the function wants an f32"),
        ("i32", ["4294967296"], "does not fit an i32"),
        ("i64", [-(2**63) - 1], "does not fit an i64"),
        ("f32", ["1e39"], "does not fit an f32"),
        ("f64", [10**400], "the function wants an f64"),
        ("i32", ["9" * 5000], "the function wants an i32"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_position(
    prepared: Prepared, name: str, args: list, message: str
) -> None:
    with pytest.raises(wasm.InvalidRequest, match=message):
        wasm.execute(prepared(ECHOES), {"invoke": name, "args": args})


def test_a_function_that_is_not_there_is_answered_with_those_that_are(prepared: Prepared) -> None:
    with pytest.raises(
        wasm.InvalidRequest, match=r"no function 'i16'.*f32, f64, i32, i64, nothing"
    ):
        wasm.execute(prepared(ECHOES), {"invoke": "i16"})
    with pytest.raises(wasm.InvalidRequest, match="no function 'memory'"):
        wasm.execute(prepared(ECHOES), {"invoke": "memory"})


def test_a_module_without_functions_says_so(prepared: Prepared) -> None:
    with pytest.raises(wasm.InvalidRequest, match="no WASI command; it has no functions"):
        wasm.execute(prepared("(module)"))


def test_references_cannot_come_or_go(prepared: Prepared) -> None:
    artifact = prepared("""(module
      (func (export "take") (param externref))
      (func (export "give") (result funcref) (ref.null func)))""")
    with pytest.raises(wasm.InvalidRequest, match="cannot be given"):
        wasm.execute(artifact, {"invoke": "take", "args": ["1"]})
    with pytest.raises(wasm.InvalidRequest, match="give gives a funcref"):
        wasm.execute(artifact, {"invoke": "give"})


def test_a_module_that_needs_a_host_cannot_be_run_by_itself(prepared: Prepared) -> None:
    artifact = prepared('(module (import "env" "storage" (func)) (func (export "f")))')
    with pytest.raises(wasm.InvalidRequest, match="`env::storage` has not been defined"):
        wasm.execute(artifact, {"invoke": "f"})


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (
            "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
            "divide by zero",
            "integer_division_by_zero",
        ),
        ("unreachable", "unreachable", "unreachable"),
        ("(call $f)", "call stack exhausted", "stack_overflow"),
        ("(drop (i32.load (i32.const 65536)))", "out of bounds memory", "memory_out_of_bounds"),
    ],
)
def test_a_trap_is_one_clear_error(prepared: Prepared, body: str, message: str, code: str) -> None:
    artifact = prepared(f'(module (memory 1) (func $f (export "f") {body}))')
    with pytest.raises(wasm.Trap, match=message) as trap:
        wasm.execute(artifact, {"invoke": "f"})
    assert trap.value.code == code


def test_a_trap_at_the_start_is_one_too(prepared: Prepared) -> None:
    artifact = prepared('(module (func $s unreachable) (start $s) (func (export "f")))')
    with pytest.raises(wasm.Trap, match="unreachable"):
        wasm.execute(artifact, {"invoke": "f"})


def test_a_library_is_initialised_before_it_is_used(prepared: Prepared) -> None:
    artifact = prepared("""(module (global $ready (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $ready (i32.const 1)))
      (func (export "ready") (result i32) (global.get $ready)))""")
    assert wasm.execute(artifact, {"invoke": "ready"})["values"] == [1]


def test_each_run_starts_afresh(prepared: Prepared) -> None:
    program = wasm.load(
        prepared("""(module (global $calls (mut i32) (i32.const 0))
      (func (export "call") (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls)))""")
    )
    assert [program.run({"invoke": "call"})["values"] for _ in range(3)] == [[1], [1], [1]]


def test_code_that_does_not_end_is_stopped_at_its_time_limit(prepared: Prepared) -> None:
    program = wasm.load(prepared(FOREVER))
    for _ in range(2):  # an interruption is over when its run is
        with pytest.raises(wasm.Trap, match="wasm trap: interrupt") as trap:
            program.run({"invoke": "spin", "time_limit": 0.01})
        assert trap.value.code == "interrupt"


def test_a_time_limit_holds_for_the_start_function(prepared: Prepared) -> None:
    artifact = prepared(
        '(module (func $s (loop $again (br $again))) (start $s) (func (export "f")))'
    )
    with pytest.raises(wasm.Trap, match="wasm trap: interrupt"):
        wasm.execute(artifact, {"invoke": "f", "time_limit": 0.01})


def test_another_thread_can_interrupt_a_run(prepared: Prepared) -> None:
    program = wasm.load(prepared(FOREVER))
    codes: list[str | None] = []

    def run() -> None:
        with pytest.raises(wasm.Trap) as trap:
            program.run({"invoke": "spin"})
        codes.append(trap.value.code)

    runner = threading.Thread(target=run)
    runner.start()
    while runner.is_alive():  # the first interruptions may come before there is a run
        program.interrupt()
        runner.join(0.01)
    assert codes == ["interrupt"]


def test_the_memory_limit_bounds_growth(prepared: Prepared) -> None:
    artifact = prepared("""(module (memory 1)
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))""")
    assert wasm.execute(artifact, {"invoke": "grow"})["values"] == [1]
    limited = {"invoke": "grow", "memory_limit": 65536}
    assert wasm.execute(artifact, limited)["values"] == [-1]


def test_the_memory_limit_bounds_tables(prepared: Prepared) -> None:
    artifact = prepared("""(module (table 1 funcref)
      (func (export "grow") (result i32) (table.grow (ref.null func) (i32.const 1000))))""")
    limited = {"invoke": "grow", "memory_limit": 65536}
    assert wasm.execute(artifact, limited)["values"] == [1]
    assert wasm.execute(artifact, {**limited, "memory_limit": 4096})["values"] == [-1]


def test_more_memory_than_the_limit_from_the_start_is_a_trap(prepared: Prepared) -> None:
    artifact = prepared('(module (memory 10) (func (export "f")))')
    with pytest.raises(wasm.Trap, match="exceeds memory limits"):
        wasm.execute(artifact, {"invoke": "f", "memory_limit": 65536})


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"fuel": 1}, "a request has no 'fuel'; it may have invoke, args"),
        ({"invoke": 1}, "invoke is 1; it must be a name"),
        ({"args": "42"}, "args is '42'; it must be a list"),
        ({"args": ["a\0b"]}, "args of a WASI command must be text without NUL"),
        ({"args": [1]}, "args of a WASI command must be text"),
        ({"name": "\udc80"}, "name is .*; it must be text"),
        ({"stdin": "text"}, "stdin is 'text'; it must be bytes"),
        ({"env": {"A": 1}}, "env is .*; it must be a mapping of text to text"),
        ({"dirs": ["/"]}, "dirs is .*; it must be a mapping of names to paths"),
        ({"writable_dirs": {"a": None}}, "writable_dirs is .*; it must be"),
        ({"ambient": 1}, "ambient is 1; it must be True or False"),
        ({"memory_limit": 0}, "memory_limit is 0; it must be a number of bytes"),
        ({"memory_limit": 2**63}, "memory_limit is 9223372036854775808; it must be a number of"),
        ({"memory_limit": 1.5}, "memory_limit is 1.5; it must be a number of bytes"),
        ({"time_limit": True}, "time_limit is True; it must be a number of seconds"),
        ({"time_limit": -1}, "time_limit is -1; it must be a number of seconds"),
    ],
)
def test_a_request_is_checked_key_by_key(prepared: Prepared, request_: dict, message: str) -> None:
    with pytest.raises(wasm.InvalidRequest, match=message):
        wasm.execute(prepared(FOREVER), request_)


def test_a_request_is_a_mapping(prepared: Prepared) -> None:
    with pytest.raises(TypeError, match="a request is a mapping, not list"):
        wasm.execute(prepared(FOREVER), ["spin"])  # type: ignore[arg-type]


def test_an_open_artifact_outlives_its_name(prepared: Prepared) -> None:
    path = prepared(ECHOES)
    with path.open("rb") as file:
        path.unlink()
        program = wasm.load(file)
    assert program.run({"invoke": "i32", "args": [7]})["values"] == [7]


@pytest.mark.parametrize("content", [b"", b"no artifact", b"\0asm\1\0\0\0"])
def test_what_is_no_artifact_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(wasm.ArtifactRejected, match="prepare it again"):
        wasm.load(tmp_path / "file")


def test_an_artifact_for_another_engine_is_rejected(tmp_path: Path) -> None:
    plain = wasmtime.Module(wasmtime.Engine(), "(module)").serialize()  # not interruptible
    (tmp_path / "file").write_bytes(plain)
    with pytest.raises(wasm.ArtifactRejected, match="epoch"):
        wasm.load(tmp_path / "file")


def test_an_artifact_is_a_path_or_a_file(prepared: Prepared) -> None:
    path = prepared(FOREVER)
    with pytest.raises(TypeError, match="a Path or an open file, not str"):
        wasm.load(str(path))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        wasm.load(path.with_name("missing"))
