"""WASI commands: what they read, write and answer, and all that they cannot see."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry import wasm

Prepared = Callable[[str], Path]

# The functions of WASI preview 1 that the guests use, a few of their own, and 64 KiB: pieces and
# answers below 64, the names at 512, what is read from 1024 on.
GUEST = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get"
    (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "note\\n")

  (func $piece (param $at i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $size)))
  (func $read (param $fd i32)
    (call $piece (i32.const 1024) (i32.const 60000))
    (call $check (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $write (param $fd i32) (param $at i32) (param $size i32)
    (call $piece (local.get $at) (local.get $size))
    (call $check (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $print_what_was_read
    (call $write (i32.const 1) (i32.const 1024) (i32.load (i32.const 8))))
  ;; Opens "note" in the first directory that was given, following links.
  (func $open (param $flags i32) (param $rights i64) (result i32)
    (call $check (call $path_open
      (i32.const 3) (i32.const 1) (i32.const 512) (i32.const 4)
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 12)))
    (i32.load (i32.const 12)))
  ;; Makes an error number of WASI the exit code.
  (func $check (param $error i32)
    (if (local.get $error) (then (call $exit (local.get $error)))))
  (func (export "_start") BODY))"""

CAT = "(call $read (i32.const 0)) (call $print_what_was_read)"
GREET = "(call $write (i32.const 1) (i32.const 512) (i32.const 5))"
COMPLAIN = "(call $write (i32.const 2) (i32.const 512) (i32.const 2))"
READ_NOTE = """
  (call $read (call $open (i32.const 0) (i64.const 2)))
  (call $print_what_was_read)"""
WRITE_NOTE = """
  (call $write (call $open (i32.const 1) (i64.const 64)) (i32.const 512) (i32.const 5))"""
PRINT_TEXTS = """
  (call $check (call $TEXTS_sizes (i32.const 16) (i32.const 20)))
  (call $check (call $TEXTS (i32.const 1024) (i32.const 8192)))
  (call $write (i32.const 1) (i32.const 8192) (i32.load (i32.const 20)))"""
PRINT_ARGS = PRINT_TEXTS.replace("TEXTS", "args")
PRINT_ENVIRON = PRINT_TEXTS.replace("TEXTS", "environ")

# Error numbers of WASI.
BAD_DESCRIPTOR, NOT_PERMITTED = 8, 63


def command(body: str) -> str:
    return GUEST.replace("BODY", body)


def test_a_command_reads_its_input_and_writes_its_output(prepared: Prepared) -> None:
    result = wasm.execute(prepared(command(CAT)), {"stdin": b"some\0bytes\n"})
    assert result == {"values": [], "exit_code": 0, "stdout": b"some\0bytes\n", "stderr": b""}


def test_without_input_there_is_nothing_to_read(prepared: Prepared) -> None:
    assert wasm.execute(prepared(command(CAT)))["stdout"] == b""


def test_standard_error_is_kept_apart(prepared: Prepared) -> None:
    result = wasm.execute(prepared(command(GREET + COMPLAIN)))
    assert (result["stdout"], result["stderr"]) == (b"note\n", b"no")


def test_a_command_knows_its_name_and_arguments(prepared: Prepared) -> None:
    result = wasm.execute(
        prepared(command(PRINT_ARGS)), {"name": "args.wat", "args": ["-x", "päth"]}
    )
    assert result["stdout"].decode() == "args.wat\0-x\0päth\0"


def test_an_exit_code_is_an_answer_and_no_error(prepared: Prepared) -> None:
    result = wasm.execute(prepared(command(f"{GREET} (call $exit (i32.const 7))")))
    assert (result["exit_code"], result["stdout"]) == (7, b"note\n")


def test_a_trap_keeps_what_was_written_before_it(prepared: Prepared) -> None:
    with pytest.raises(wasm.Trap) as trap:
        wasm.execute(prepared(command(f"{GREET} {COMPLAIN} unreachable")))
    assert (trap.value.stdout, trap.value.stderr) == (b"note\n", b"no")


def test_the_environment_is_empty_unless_given(prepared: Prepared) -> None:
    artifact = prepared(command(PRINT_ENVIRON))
    assert os.environ
    assert wasm.execute(artifact)["stdout"] == b""
    assert wasm.execute(artifact, {"env": {"LANG": "C"}})["stdout"] == b"LANG=C\0"


def test_no_file_can_be_opened_unless_its_directory_is_given(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note").write_text("secret")
    monkeypatch.chdir(tmp_path)
    artifact = prepared(command(READ_NOTE))
    assert wasm.execute(artifact)["exit_code"] == BAD_DESCRIPTOR
    given = wasm.execute(artifact, {"dirs": {"/": str(tmp_path)}})
    assert (given["exit_code"], given["stdout"]) == (0, b"secret")


def test_a_directory_is_for_reading_unless_given_for_writing(
    prepared: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    artifact = prepared(command(WRITE_NOTE))
    assert wasm.execute(artifact, {"dirs": {"/": str(folder)}})["exit_code"] == NOT_PERMITTED
    assert list(folder.iterdir()) == []
    assert wasm.execute(artifact, {"writable_dirs": {"/": str(folder)}})["exit_code"] == 0
    assert (folder / "note").read_text() == "note\n"


def test_a_link_does_not_lead_out_of_a_directory(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note").symlink_to(tmp_path / "secret")
    result = wasm.execute(prepared(command(READ_NOTE)), {"dirs": {"/": str(tmp_path / "folder")}})
    assert result["exit_code"] == NOT_PERMITTED
    assert result["stdout"] == b""


def test_a_directory_that_is_not_there_is_named(prepared: Prepared, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(wasm.InvalidRequest, match=r"missing'.*is no directory"):
        wasm.execute(prepared(command(READ_NOTE)), {"dirs": {"/": missing}})


# A process of its own, whose standard streams are the test's to hold.
AMBIENT = """
import sys, threading
from pathlib import Path
from registry import wasm
try:
    print(wasm.execute(Path(sys.argv[1]), {"ambient": True, **eval(sys.argv[2])}), flush=True)
except wasm.Trap as trap:
    print("Trap", trap.code, flush=True)
except KeyboardInterrupt:
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(30)
    print("KeyboardInterrupt", threading.active_count(), flush=True)
"""


@contextmanager
def ambient(artifact: Path, request: str = "{}") -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", AMBIENT, str(artifact), request],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_ambient_command_uses_the_streams_of_the_process(prepared: Prepared) -> None:
    with ambient(prepared(command(CAT))) as process:
        out, _ = process.communicate(b"streamed\n", timeout=60)
    assert out.startswith(b"streamed\n{'values': [], 'exit_code': 0, 'stdout': b''")


def test_an_ambient_command_can_still_be_given_its_input(prepared: Prepared) -> None:
    with ambient(prepared(command(CAT)), "{'stdin': b'given\\n'}") as process:
        out, _ = process.communicate(b"not this\n", timeout=60)
    assert out.startswith(b"given\n")


def test_ctrl_c_ends_the_waiting_and_the_code(prepared: Prepared) -> None:
    with ambient(prepared(command(f"{GREET} (loop $again (br $again))"))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"note\n"  # the code is running
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out == b"KeyboardInterrupt 1\n"  # nothing runs on


def test_a_command_blocked_in_the_system_keeps_neither_caller_nor_process(
    prepared: Prepared,
) -> None:
    with ambient(prepared(command(CAT)), "{'time_limit': 0.01}") as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"Trap interrupt\n"  # its input is still open
        assert process.wait(timeout=60) == 0


def test_a_result_is_fit_for_json_and_loses_nothing():
    raw = b"ok\xff\xc3"
    given = wasm.Result(
        values=[1, -2.5, float("nan"), float("-inf")], exit_code=3, stdout=raw, stderr=b""
    )
    read = json.loads(json.dumps(wasm.as_json(given), allow_nan=False))
    assert read["values"] == [1, -2.5, "nan", "-inf"]
    assert (read["exit_code"], read["stderr"]) == (3, "")
    assert read["stdout"].encode(errors="surrogateescape") == raw
