"""Shared objects: what is compiled again, what stays, what failures say. With a real gcc."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import InvalidData, PreparationFailed, Registry, State, native, process_handles

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
COMMAND = ["gcc", "-O2", "-shared", "-fPIC", "add.c", "-o", "{output}"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a folder with a source and its header; close the handles in the end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "add.h").write_text("#define MORE 1\n")
    (tmp_path / "add.c").write_text(
        '#include <stdlib.h>\n#include "add.h"\nint add(int a, int b) { return a + b + MORE; }\n'
    )
    yield tmp_path
    for key in list(process_handles._handles):
        process_handles._handles.pop(key).close()


def add(cache: Path, command: list[str] = COMMAND, **more: object) -> Path:
    given: dict[str, object] = {"inputs": ["add.c", "add.h"], "name": "libadd.so", "cache": cache}
    return native.build(command, **{**given, **more})  # type: ignore[arg-type]


def states(cache: Path) -> list[State]:
    with Registry(cache) as registry:
        return sorted(artifact.state for artifact in registry.artifacts())


def test_a_shared_object_is_built_loaded_and_found_again(cache: Path) -> None:
    built = add(cache)

    assert built.name == "libadd.so"
    assert ctypes.CDLL(str(built)).add(2, 3) == 6
    assert add(cache) == built
    assert states(cache) == [State.PREPARED]


def test_it_stays_while_this_process_lives_whatever_is_removed(cache: Path) -> None:
    built = add(cache)
    with Registry(cache) as registry:
        (artifact,) = registry.artifacts()
        assert registry.remove(artifact.id)

    assert ctypes.CDLL(str(built)).add(2, 3) == 6
    assert add(cache) == built


def test_what_changes_the_result_is_in_the_key(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add(cache)
    (folder / "add.h").write_text("#define MORE 10\n")
    assert ctypes.CDLL(str(add(cache))).add(2, 3) == 15
    (folder / "add.h").write_text("#define MORE 1\n")
    assert add(cache) == first

    others = {first, add(cache, params={"version": 2}), add(cache, ["gcc", "-g", *COMMAND[1:]])}
    monkeypatch.setenv("CPATH", str(folder))
    others.add(add(cache))
    monkeypatch.setenv("MINE", "1")
    others.add(add(cache, env=["MINE"]))
    others.add(add(cache, tools=["ld"]))
    assert len(others) == 6


def test_another_compiler_of_the_same_name_builds_again(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add(cache)
    wrapper = folder / "bin" / "gcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("gcc")} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    second = add(cache)
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("gcc", path="/usr/bin")} -DEDITED "$@"\n')

    assert len({first, second, add(cache)}) == 3


def test_a_header_that_is_no_input_is_refused_and_nothing_is_stored(cache: Path) -> None:
    with pytest.raises(InvalidData, match=r"compiled from .*add\.h, which is not among"):
        add(cache, inputs=["add.c"])
    assert states(cache) == []


def test_a_folder_is_all_its_files(cache: Path, folder: Path) -> None:
    (folder / "include").mkdir()
    (folder / "add.h").rename(folder / "include" / "add.h")
    command = ["gcc", "-Iinclude", *COMMAND[1:]]
    first = add(cache, command, inputs=["add.c", "include"])
    (folder / "include" / "more.h").write_text("")

    assert add(cache, command, inputs=["add.c", "include"]) != first


def test_a_failure_has_the_words_of_the_compiler_and_is_remembered(
    cache: Path, folder: Path
) -> None:
    (folder / "add.c").write_text("int add( {\n")
    for _ in range(2):
        with pytest.raises(PreparationFailed, match="expected declaration specifiers") as caught:
            add(cache)
    assert "registry retry" in str(caught.value)
    assert states(cache) == [State.FAILED]


@pytest.mark.parametrize("missing", ["header", "library", "program", "compiler"])
def test_what_the_machine_lacks_is_not_remembered(cache: Path, folder: Path, missing: str) -> None:
    if missing == "header":
        (folder / "add.c").write_text("#include <nobody-has-this.h>\n")
    library = ["-lnobody-has-this"] if missing == "library" else []
    command = [*COMMAND, *library]
    if missing == "program":
        command = ["sh", "-c", "nobody-has-this", "{output}"]
    if missing == "compiler":
        command = ["nobody-has-this", "{output}"]

    with pytest.raises(PreparationFailed, match=r"nobody-has-this|No such file|cannot find"):
        add(cache, command)
    assert not (cache / "registry.db").exists() or states(cache) == []


def test_an_input_that_changes_meanwhile_is_not_stored_under_its_old_content(
    cache: Path, folder: Path
) -> None:
    command = ["sh", "-c", f'echo "#define MORE 7" > add.h; {" ".join(COMMAND[:-1])} "$1"', "sh"]
    with pytest.raises(PreparationFailed, match="changed while it was compiled"):
        add(cache, [*command, "{output}"])
    assert states(cache) == []


def test_misuse_is_told(cache: Path) -> None:
    with pytest.raises(TypeError, match="sequences"):
        native.build("gcc add.c", inputs=["add.c"], name="a.so")
    with pytest.raises(InvalidData, match="output"):
        add(cache, ["gcc", "add.c"])
    with pytest.raises(InvalidData, match=r"gone\.c cannot be read"):
        add(cache, inputs=["gone.c"])
    with pytest.raises(InvalidData, match="no name of a file"):
        add(cache, name="../libadd.so")
    with pytest.raises(PreparationFailed, match="made no file"):
        add(cache, ["true", "{output}"])


def test_without_a_usable_cache_it_compiles_for_this_process_and_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_folder = tmp_path / "file"
    no_folder.write_text("")
    with caplog.at_level(logging.WARNING, "registry"):
        built = add(no_folder)

    assert ctypes.CDLL(str(built)).add(2, 3) == 6
    assert [record.event for record in caplog.records] == ["native_failed"]  # type: ignore[attr-defined]


MODULE = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "answering", 0, -1, methods};
PyMODINIT_FUNC PyInit_answering(void) { return PyModule_Create(&module); }
"""


@pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="Python has no headers"
)
def test_an_extension_module_is_imported_once(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "answering.c").write_text(MODULE)
    command = ["gcc", "-shared", "-fPIC", "-I{include}", "answering.c", "-o", "{output}"]
    monkeypatch.setitem(sys.modules, "answering", None)

    module = native.extension("answering", command, inputs=["answering.c"], cache=cache)

    assert module.answer() == 42
    assert str(module.__file__).endswith(sysconfig.get_config_var("EXT_SUFFIX"))
    again = native.extension("answering", command, inputs=["answering.c"], cache=cache)
    assert again is module is sys.modules["answering"]
