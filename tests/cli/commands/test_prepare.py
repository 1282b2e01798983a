"""`prepare`: files become artifacts, once."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from support.command import Command, Run

from registry import Registry, wasm

ADD = b"""(module (func (export "add") (param i32 i32) (result i32)
    local.get 0 local.get 1 i32.add))"""


def _write(command: Command, **files: bytes) -> None:
    for name, content in files.items():
        (command.home / f"{name}.wat").write_bytes(content)


def test_a_file_is_a_miss_once_and_a_hit_from_then_on(command: Command, registry: Registry) -> None:
    _write(command, add=ADD)
    first = command("prepare", "add.wat", "--json")
    (miss,) = first.document
    artifact = registry.get(wasm.artifact_id(ADD))
    assert artifact is not None
    assert artifact.label == "add.wat"
    assert (first.code, miss["outcome"], miss["file"]) == (0, "miss", "add.wat")
    assert (miss["code_hash"], miss["prep_hash"]) == (
        artifact.id.code_hash,
        artifact.id.prep_hash,
    )
    assert miss["size"] == artifact.size
    assert miss["seconds"] >= artifact.prepare_seconds > 0
    (hit,) = command("prepare", "add.wat", "--json").document
    assert hit == {**miss, "outcome": "hit", "seconds": hit["seconds"]}


def test_files_with_the_same_content_are_one_artifact(
    command: Command, run: Run, registry: Registry
) -> None:
    _write(command, one=ADD, two=ADD)
    answer = run("prepare", "one.wat", "two.wat")
    title, one, two = answer.out.splitlines()
    assert title.split() == ["ID", "OUTCOME", "SIZE", "TIME", "FILE"]
    assert (one.split()[1], two.split()[1]) == ("miss", "hit")
    assert (one.split()[0], one.split()[-1], two.split()[-1]) == (
        wasm.artifact_id(ADD).short,
        "one.wat",
        "two.wat",
    )
    assert len(list(registry.artifacts())) == 1


def test_what_fails_does_not_stop_the_others(
    command: Command, run: Run, registry: Registry
) -> None:
    _write(command, bad=b"(module (func", empty=b"", good=ADD)
    os.mkdir(command.home / "folder")
    files = ("bad.wat", "empty.wat", "gone.wat", "folder", "good.wat")
    answer = run("prepare", "--json", *files)
    assert answer.code == 1
    assert [row["file"] for row in answer.document] == list(files)
    assert [row["outcome"] for row in answer.document] == ["failed"] * 4 + ["miss"]
    assert [error["type"] for error in answer.errors] == [
        "PreparationFailed",
        "InvalidId",
        "FileNotFoundError",
        "IsADirectoryError",
    ]
    for row, error in zip(answer.document[:4], answer.errors, strict=True):
        assert row["file"] in error["message"]
        assert row["error"] in error["message"]
    assert {artifact.label for artifact in registry.artifacts()} == {"bad.wat", "good.wat"}


def test_a_failure_is_remembered_and_told_again_until_it_may_be_retried(
    command: Command, run: Run
) -> None:
    _write(command, bad=b"(module (func")
    first, again = (run("prepare", "bad.wat", "--json") for _ in range(2))
    assert first.error["type"] == again.error["type"] == "PreparationFailed"
    assert "expected `)`" in again.error["message"]
    (row,) = again.document
    shown = run("show", row["code_hash"], "--json").document
    assert shown["num_failures"] == 1
    assert run("retry", row["code_hash"]).code == 0
    run("prepare", "bad.wat")
    assert run("show", row["code_hash"], "--json").document["num_failures"] == 1


def test_code_over_the_limit_is_refused_and_not_remembered(
    command: Command, run: Run, registry: Registry
) -> None:
    _write(command, huge=ADD + b" " * wasm.CODE_LIMIT)
    answer = run("prepare", "huge.wat", "--json")
    assert (answer.code, answer.error["type"]) == (1, "CodeTooLarge")
    assert list(registry.artifacts()) == []


def test_a_hostile_file_name_is_shown_harmless(
    command: Command, run: Run, registry: Registry
) -> None:
    name = "evil\n\x1b[2J.wat"
    (command.home / name).write_bytes(ADD)
    answer = run("prepare", name)
    assert answer.out.splitlines()[1].endswith(r"evil\n\x1b[2J.wat")
    (artifact,) = registry.artifacts()
    assert artifact.label == name


def test_a_file_name_that_is_no_text_can_be_prepared(command: Command) -> None:
    name = os.fsdecode(b"caf\xe9.wat")
    (command.home / name).write_bytes(ADD)
    answer = command("prepare", name, "--json")
    assert (answer.code, answer.document[0]["file"]) == (0, name)
    assert command("ls").code == 0


def test_progress_is_shown_on_a_terminal_alone(command: Command) -> None:
    _write(command, add=ADD)
    assert command("prepare", "add.wat").err == ""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command.line("prepare", "add.wat"),
        cwd=command.home,
        env=command.environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = _everything(ours)
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0
    assert b"0/1" in shown
    assert b"add.wat" in shown
    assert out.splitlines()[1].split()[1] == b"hit"


def _everything(terminal: int) -> bytes:
    """Read what is written to a terminal until its last writer has gone."""
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # this is how a terminal without writers says so
        pass
    finally:
        os.close(terminal)
    return shown


def test_several_files_end_with_a_summary(command: Command) -> None:
    _write(command, one=ADD, two=ADD + b"\n", bad=b"(nonsense")
    answer = command("prepare", "one.wat", "two.wat", "one.wat", "bad.wat")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == "2 compiled, 1 hit, 1 failed"
    assert "compiled," not in command("prepare", "one.wat", "two.wat", "--json").err


def test_several_files_are_compiled_at_once(command: Command, registry: Registry) -> None:
    _write(command, one=ADD, two=ADD + b"\n", three=ADD + b"\n\n", bad=b"(nonsense")
    files = ["one.wat", "bad.wat", "two.wat", "missing.wat", "three.wat", "one.wat"]
    answer = command("prepare", "-j", "3", *files)
    assert answer.code == 1
    _, *lines = answer.out.splitlines()
    assert [line.split()[-1] for line in lines] == files
    assert sorted(line.split()[1] for line in lines) == [*["failed"] * 2, "hit", *["miss"] * 3]
    assert answer.err.splitlines()[-1] == "3 compiled, 1 hit, 2 failed"
    for file in files:
        assert f"preparing {file} (" in answer.err
    assert answer.err.count("error: bad.wat") == answer.err.count("error: missing.wat") == 1
    assert registry.check(checksums=True).ok
    document = command("prepare", "--json", "-j", "2", *files)
    assert [row["outcome"] for row in document.document] == [
        *("hit", "failed", "hit", "failed", "hit", "hit")
    ]
    assert len(document.errors) == 2


@pytest.mark.parametrize("jobs", ["0", "-1", "x"])
def test_a_number_of_jobs_is_at_least_one(command: Command, jobs: str) -> None:
    _write(command, one=ADD)
    assert command("prepare", "-j", jobs, "one.wat").code == 2
    assert not command.cache.exists()


def test_a_cache_that_cannot_be_used_is_told_of_once(command: Command) -> None:
    _write(command, one=ADD, two=ADD + b"\n")
    command.cache.write_text("no directory")
    answer = command("prepare", "-j", "2", "one.wat", "two.wat")
    assert (answer.code, answer.out, answer.err.count("error:")) == (3, "", 1)


def test_a_module_in_the_working_directory_is_not_run(command: Command) -> None:
    _write(command, one=ADD, two=ADD + b"\n")
    (command.home / "registry.py").write_text("raise SystemExit('hostile')")
    line = [sys.executable, "-P", "-m", "registry", "prepare", "-j", "2", "one.wat", "two.wat"]
    done = subprocess.run(line, cwd=command.home, env=command.environment(), capture_output=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, b"2 compiled")
