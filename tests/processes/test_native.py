"""A shared object that many processes want at once is compiled once, by a real gcc."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest

from processes.crew import Crew, Line
from processes.traces import assert_clean, lines
from registry import Registry, native

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


def build_and_add(line: Line, cache: Path, folder: Path) -> int:
    """Build with a compiler that counts; use it after all the cache has been emptied."""
    os.chdir(folder)
    line.ask("ready")
    built = native.build(
        [str(folder / "cc"), "-shared", "-fPIC", "add.c", "-o", "{output}"],
        inputs=["add.c"],
        name="libadd.so",
        cache=cache,
    )
    line.ask("built")
    return int(ctypes.CDLL(str(built)).add(2, 3))


def test_eight_processes_compile_once_and_what_they_have_stays(
    cache: Path, crew: Crew, tmp_path: Path
) -> None:
    (tmp_path / "add.c").write_text("int add(int a, int b) { return a + b; }\n")
    count = tmp_path / "compilations"
    (tmp_path / "cc").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || echo once >> {count}\nexec gcc "$@"\n'
    )
    (tmp_path / "cc").chmod(0o700)
    children = [crew.start(build_and_add, cache, tmp_path) for _ in range(8)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell()
    for child in children:
        child.expect("built")

    with Registry(cache) as registry:
        for artifact in list(registry.artifacts()):
            registry.remove(artifact.id)
    for child in children:
        child.tell()

    assert [child.last_word() for child in children] == [5] * 8
    assert lines(count) == ["once"]
    assert assert_clean(cache) == []
