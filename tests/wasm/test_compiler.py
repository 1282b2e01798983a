"""From code to an artifact: its identity, its parameters, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime
import zstandard

from registry import wasm
from registry.artifact import ArtifactId
from registry.errors import InvalidParams, PrepareError, RegistryError
from registry.wasm.compiler import _failure

ANSWER = b'(module (func (export "answer") (result i32) (i32.const 42)))'


def python(script: str) -> str:
    """Run a script in a process of its own, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_answer(artifact: bytes, folder: Path) -> list[int | float]:
    (folder / "artifact").write_bytes(artifact)
    return wasm.execute(folder / "artifact", {"invoke": "answer"})["values"]


@pytest.mark.parametrize("opt_level", ["none", "speed", "speed_and_size"])
def test_an_artifact_of_every_level_runs(opt_level: str, tmp_path: Path) -> None:
    assert run_answer(wasm.prepare(ANSWER, {"opt_level": opt_level}), tmp_path) == [42]


def test_text_binary_and_both_compressed_are_the_same_module(tmp_path: Path) -> None:
    binary = bytes(wasmtime.wat2wasm(ANSWER))
    magic = bytes.fromhex("52bc537646db8e05")
    for code in (
        ANSWER,
        b";; with a comment first\n" + ANSWER,
        binary,
        magic + zstandard.compress(ANSWER),
        magic + zstandard.compress(binary),
    ):
        folder = tmp_path / str(len(code))
        folder.mkdir()
        assert run_answer(wasm.prepare(code), folder) == [42]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"", "unexpected end-of-file"),
        (b"\0asm\1\0\0\0\1", "unexpected end"),
        (b"\0asm\x0d\0\1\0", "given a WebAssembly component"),
        (b"\xff\xfe\xfd", "not valid utf-8"),
        (b"(module", r"expected `\)`"),
        (b"(module (func (result i64) i32.const 0))", "expected i64, found i32"),
    ],
)
def test_malformed_code_fails_for_good_with_the_message_of_wasmtime(
    code: bytes, message: str
) -> None:
    with pytest.raises(PrepareError, match=message) as refused:
        wasm.prepare(code)
    assert refused.value.deterministic
    assert refused.value.kind == "preparation"


def test_what_the_system_refused_is_not_held_against_the_code() -> None:
    failure = _failure("mmap failed\n\nCaused by:\n    Cannot allocate memory (os error 12)")
    assert (failure.kind, failure.deterministic) == ("kernel", False)


def test_text_that_quotes_an_error_of_the_system_fails_for_good() -> None:
    with pytest.raises(PrepareError) as refused:
        wasm.prepare(b'(module (export "(os error 12)"')
    assert "os error" in str(refused.value)
    assert refused.value.deterministic


def test_the_identity_names_what_the_artifact_depends_on() -> None:
    identity = wasm.identity()
    assert identity["backend"] == "wasmtime"
    assert identity["opt_level"] == "speed"
    assert wasm.artifact_id(ANSWER) == ArtifactId.of(ANSWER, identity)


def test_the_identity_is_the_same_in_another_process() -> None:
    script = f"from registry import wasm; print(wasm.artifact_id({ANSWER!r}))"
    assert python(script).strip() == str(wasm.artifact_id(ANSWER))


def test_each_level_of_optimisation_is_another_artifact() -> None:
    levels = ("none", "speed", "speed_and_size")
    assert len({wasm.artifact_id(ANSWER, {"opt_level": level}) for level in levels}) == 3


def test_a_parameter_without_meaning_for_the_artifact_changes_nothing() -> None:
    assert wasm.artifact_id(ANSWER, {"code_limit": 1}) == wasm.artifact_id(ANSWER)
    assert wasm.artifact_id(ANSWER, {"opt_level": "speed"}) == wasm.artifact_id(ANSWER)


def test_the_same_module_compressed_is_another_artifact() -> None:
    packed = bytes.fromhex("52bc537646db8e05") + zstandard.compress(ANSWER)
    assert wasm.artifact_id(packed) != wasm.artifact_id(ANSWER)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"optlevel": "speed"},
            "no parameter 'optlevel'; the parameters are opt_level, code_limit",
        ),
        ({1: 2}, "no parameter 1"),
        ({"opt_level": "fast"}, "one of none, speed, speed_and_size"),
        ({"opt_level": ["speed"]}, "one of none, speed, speed_and_size"),
        ({"code_limit": 0}, "a number of bytes"),
        ({"code_limit": "12MiB"}, "a number of bytes"),
    ],
)
def test_wrong_parameters_are_refused_by_name(params: dict, message: str) -> None:
    for verb in (wasm.identity, lambda params: wasm.prepare(ANSWER, params)):
        with pytest.raises(InvalidParams, match=message):
            verb(params)


def test_params_are_a_mapping() -> None:
    with pytest.raises(TypeError, match="params is a mapping, not str"):
        wasm.identity("speed")  # type: ignore[arg-type]


def test_the_backend_is_imported_without_its_compiler() -> None:
    script = "import sys, registry.wasm; print({'wasmtime', 'zstandard'} & set(sys.modules))"
    assert python(script) == "set()\n"


@pytest.mark.parametrize("package", ["wasmtime", "zstandard"])
def test_a_missing_package_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = bytes.fromhex("52bc537646db8e05") + zstandard.compress(ANSWER)
    monkeypatch.setitem(sys.modules, package, None)  # what the import system takes for missing
    with pytest.raises(RegistryError, match=rf"needs {package}.*'compile-registry\[wasm\]'"):
        wasm.prepare(packed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_made_by_fork_can_compile_after_its_parent_has() -> None:
    # Without care it would wait for ever for the threads that its parent compiled with.
    python(
        "import os, signal\n"
        "from registry import wasm\n"
        f"code = {ANSWER!r}\n"
        "wasm.prepare(code)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    wasm.prepare(code)\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
