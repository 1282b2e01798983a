"""`run`: a module is compiled if nobody has, and then has the terminal to itself."""

from __future__ import annotations

import pytest
from support.command import Command, Run

from registry import Registry, wasm

ADD = b"""(module (func (export "add") (param i32 i32) (result i32)
    local.get 0 local.get 1 i32.add))"""

# Writes its arguments, each ended by a NUL, then its input, and exits with the number of arguments.
ECHO = b"""(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $say (param i32) (param i32)
    (i32.store (i32.const 0) (local.get 0))
    (i32.store (i32.const 4) (local.get 1))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (drop (call $sizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 64) (i32.const 1024)))
    (call $say (i32.const 1024) (i32.load (i32.const 20)))
    (i32.store (i32.const 0) (i32.const 8192))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $say (i32.const 8192) (i32.load (i32.const 8)))
    (call $exit (i32.load (i32.const 16)))))"""


@pytest.fixture(autouse=True)
def modules(command: Command) -> None:
    (command.home / "add.wat").write_bytes(ADD)
    (command.home / "echo.wat").write_bytes(ECHO)


def test_a_function_is_called_and_its_value_is_the_result(run: Run) -> None:
    first = run("run", "add.wat", "--invoke", "add", "2", "3")
    assert (first.code, first.out) == (0, "5\n")
    assert first.err.startswith("miss: add.wat compiled in ")
    again = run("run", "add.wat", "--invoke", "add", "2", "-3")
    assert (again.code, again.out) == (0, "-1\n")
    assert again.err.startswith("hit: add.wat found in ")


def test_the_option_may_stand_before_the_file_too(run: Run) -> None:
    for line in (
        ("run", "--invoke", "add", "add.wat", "2", "3"),
        ("run", "--invoke=add", "add.wat", "--", "2", "3"),
        ("run", "add.wat", "--invoke=add", "2", "3"),
        ("run", "--cache", "there", "add.wat", "--invoke", "add", "2", "3"),
    ):
        assert run(*line).out == "5\n"


@pytest.mark.parametrize("arguments", [("2", "3", "--json"), ("--json", "--", "2", "3")])
def test_our_options_may_follow_a_call_for_its_arguments_are_numbers(
    run: Run, command: Command, arguments: tuple[str, ...]
) -> None:
    there = command.home / "there"
    answer = run(
        "run", "add.wat", "--invoke", "add", *arguments[:1], "--cache", there, *arguments[1:]
    )
    assert answer.document["values"] == [5]
    assert there.is_dir()
    answer = run("run", "add.wat", "--invoke", "add", "-2", "-3", "--json")
    assert answer.document["values"] == [-5]
    answer = run("run", "add.wat", "--invoke", "add", "-2", "--jason", "--json")
    assert (answer.code, answer.error["type"]) == (2, "InvalidRequest")


def test_a_command_has_our_input_output_and_exit_code(command: Command) -> None:
    answer = command("run", "echo.wat", "one", stdin=b"and input")
    assert (answer.code, answer.out) == (2, "echo.wat\0one\0and input")
    assert answer.err.startswith("miss: echo.wat")


def test_what_follows_the_file_is_the_modules(run: Run) -> None:
    answer = run("run", "echo.wat", "-x", "--json", "--cache", "--help", "--invoke", "--")
    assert answer.out == "echo.wat\0-x\0--json\0--cache\0--help\0--invoke\0--\0"
    assert answer.code == 7
    answer = run("run", "echo.wat", "--", "--invoke", "it", "--")
    assert answer.out == "echo.wat\0--invoke\0it\0--\0"


def test_one_document_tells_all_of_a_run(command: Command, registry: Registry) -> None:
    answer = command("run", "--json", "echo.wat", stdin=b"\xff")
    document = answer.document
    artifact = registry.get(wasm.artifact_id(ECHO))
    assert artifact is not None
    assert (answer.code, answer.err) == (1, "")
    assert document.pop("seconds") > 0
    assert document == {
        "code_hash": artifact.id.code_hash,
        "prep_hash": artifact.id.prep_hash,
        "outcome": "miss",
        "values": [],
        "exit_code": 1,
        "stdout": "echo.wat\0\udcff",
        "stderr": "",
    }


def test_values_that_json_cannot_say_are_text(command: Command, run: Run) -> None:
    (command.home / "odd.wat").write_text(
        '(module (func (export "odd") (result f64 f64 i64) f64.const nan f64.const -inf'
        " i64.const 9007199254740993))"
    )
    answer = run("run", "--json", "odd.wat", "--invoke", "odd")
    assert answer.document["values"] == ["nan", "-inf", 9007199254740993]
    assert run("run", "odd.wat", "--invoke", "odd").out == "nan\n-inf\n9007199254740993\n"


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        (["add.wat"], 2, "InvalidRequest"),
        (["add.wat", "--invoke", "sub"], 2, "InvalidRequest"),
        (["add.wat", "--invoke", "add", "1"], 2, "InvalidRequest"),
        (["add.wat", "--invoke", "add", "1", "x"], 2, "InvalidRequest"),
        (["add.wat", "--invoke", "add", "1", "99999999999"], 2, "InvalidRequest"),
        (["trap.wat", "--invoke", "trap"], 1, "Trap"),
        (["bad.wat"], 1, "PreparationFailed"),
        (["gone.wat"], 1, "FileNotFoundError"),
    ],
)
def test_what_cannot_be_run_is_told(
    command: Command, run: Run, line: list[str], code: int, error: str
) -> None:
    (command.home / "trap.wat").write_text('(module (func (export "trap") unreachable))')
    (command.home / "bad.wat").write_text("(module (func")
    answer = run("run", "--json", *line)
    assert (answer.code, answer.out, answer.error["type"]) == (code, "", error)


@pytest.mark.parametrize("isolated", [[], ["--isolate"]], ids=["here", "isolated"])
def test_a_request_that_does_not_fit_the_module_is_misuse(run: Run, isolated: list[str]) -> None:
    answer = run("run", "--json", *isolated, "add.wat", "--invoke", "sub")
    assert (answer.code, answer.out, answer.error["type"]) == (2, "", "InvalidRequest")
    assert "no function 'sub'" in answer.error["message"]


def test_isolated_it_is_compiled_and_run_in_workers_and_found_again(command: Command) -> None:
    first = command("run", "--isolate", "add.wat", "--invoke", "add", "2", "3")
    assert (first.code, first.out) == (0, "5\n")
    assert first.err.startswith("miss: add.wat compiled in ")
    again = command("run", "--isolate", "--json", "add.wat", "--invoke", "add", "2", "3")
    assert again.document["outcome"] == "hit"
    assert again.document["values"] == [5]


def test_isolated_what_cannot_be_compiled_is_told_once(run: Run, command: Command) -> None:
    (command.home / "bad.wat").write_bytes(b"(module")
    answer = run("run", "--isolate", "bad.wat")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("error: bad.wat ")
    assert answer.err.count("could not be prepared") == 1


def test_isolated_a_command_has_our_input_and_output_and_its_exit_code(command: Command) -> None:
    answer = command("run", "--isolate", "echo.wat", "a", stdin=b"input")
    assert (answer.code, answer.out) == (2, "echo.wat\0a\0input")
