"""Being stopped: by Ctrl-C, by a supervisor, by a reader that goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from support.artifacts import failed, prepared
from support.command import Command

from registry import ArtifactId, Registry, State

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def _slow_module() -> str:
    """WebAssembly text whose one function takes an optimizing compiler many seconds."""
    step = "local.get 0 i32.const {0} i32.add local.get 1 i32.xor i32.load local.tee 1 if {1} end"
    turn = "local.get 1 i32.const {0} i32.mul local.set 1"
    body = "\n".join(step.format(number, turn.format(number)) for number in range(30_000))
    return f'(module (memory 1) (func (export "f") (param i32) (local i32) {body}))'


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_preparation_that_is_stopped_is_nobodys_failure(
    command: Command, registry: Registry, number: signal.Signals, code: int
) -> None:
    (command.home / "slow.wat").write_text(_slow_module())
    with command.start("prepare", "slow.wat") as process:
        while not list(registry.artifacts(state=State.PREPARING)):
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "")
    assert list(registry.artifacts()) == []
    assert registry.check().ok


@pytest.mark.parametrize(("number", "code"), STOPS)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_an_interruption_leaves_is_told(
    command: Command, registry: Registry, number: signal.Signals, code: int, jobs: str
) -> None:
    for name in ("one", "two", "three"):
        (command.home / f"{name}.wat").write_text(f'(module (func (export "{name}")))')
    (command.home / "slow.wat").write_text(_slow_module())
    (command.home / "slower.wat").write_text(_slow_module() + "\n")
    files = ["one.wat", "two.wat", "slow.wat", "slower.wat", "three.wat"]
    with command.start("prepare", "-j", jobs, *files) as process:
        # The prepared ones first: those were in preparation before, two at a time.
        while len(list(registry.artifacts(state=State.PREPARED))) < 2 or (
            len(list(registry.artifacts(state=State.PREPARING))) < int(jobs)
        ):
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    left = {"1": "1 stopped; 2 not begun", "2": "2 stopped; 1 not begun"}[jobs]
    assert err.splitlines()[-1] == f"kept: 2 compiled; {left}"
    assert {it.state for it in registry.artifacts()} == {State.PREPARED}
    assert len(list(registry.artifacts())) == 2
    assert registry.check(checksums=True).ok


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_waiting_for_another_can_be_stopped_and_disturbs_nobody(
    command: Command, registry: Registry, number: signal.Signals, code: int
) -> None:
    from registry import wasm

    module = b"(module)"
    (command.home / "it.wat").write_bytes(module)
    with registry.claim(wasm.artifact_id(module)) as claim:
        with command.start("prepare", "it.wat") as process:
            assert process.stderr is not None
            assert f"prepared by process {os.getpid()} " in process.stderr.readline()
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (code, "", "")
        assert claim.publish(b"done").state is State.PREPARED


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_module_that_runs_without_end_is_stopped(
    command: Command, number: signal.Signals, code: int
) -> None:
    (command.home / "spin.wat").write_text('(module (func (export "spin") (loop br 0)))')
    with command.start("run", "spin.wat", "--invoke", "spin") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("miss: spin.wat")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "")


def test_a_signal_that_was_ignored_stays_ignored(command: Command) -> None:
    (command.home / "spin.wat").write_text('(module (func (export "spin") (loop br 0)))')
    line = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    line += command.line("run", "spin.wat", "--invoke", "spin")
    with subprocess.Popen(
        line, cwd=command.home, env=command.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143


def test_a_reader_that_goes_away_is_no_error(command: Command, registry: Registry) -> None:
    # More than a pipe holds, so that the writer is still writing when the reader has gone.
    for number in range(100):
        failed(registry, str(number), error="x" * 2000)
    with command.start("ls", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline().removeprefix("["))
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""
    assert first["state"] == "failed"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(command: Command, registry: Registry, closed: str) -> None:
    artifact = prepared(registry, "one", data=b"as it was")
    line = ["sh", "-c", f'exec "$@" {closed}', "sh", *command.line("ls")]
    done = subprocess.run(line, cwd=command.home, env=command.environment(), capture_output=True)
    assert done.returncode == 0
    assert done.stderr == b""
    assert ("one" in done.stdout.decode()) == (">&-" not in closed.replace("2>&-", ""))
    assert registry.get(ArtifactId.of(b"one")) == artifact
    assert registry.check(checksums=True).ok


def test_a_full_disk_behind_stdout_is_told(command: Command, registry: Registry) -> None:
    prepared(registry, "one")
    line = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command.line("ls", "--json")]
    done = subprocess.run(line, cwd=command.home, env=command.environment(), capture_output=True)
    assert done.returncode == 1
    assert "No space left on device" in json.loads(done.stderr)["error"]["message"]
