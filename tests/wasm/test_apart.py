"""Compiling and loading where the machine gives too little: an error, the artifact stays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import AsyncRegistry, CodeTooLarge, InternalError, PrepareError, Registry, wasm
from registry.host import Host

CODE = b'(module (func (export "f") (param i32) (result i32) local.get 0))'
ASK = {"invoke": "f", "args": [41]}


def large_module() -> bytes:
    functions = (
        b'(func (export "f%d") (param i64) (result i64) local.get 0)' % k for k in range(3000)
    )
    return b"(module " + b"".join(functions) + b")"


def test_a_child_compiles_what_we_would():
    assert wasm.prepare_in_child(CODE) == wasm.prepare(CODE)
    params = {"opt_level": "none"}
    assert wasm.prepare_in_child(CODE, params) == wasm.prepare(CODE, params)


def test_a_child_raises_what_we_would():
    with pytest.raises(PrepareError, match="expected") as caught:
        wasm.prepare_in_child(b"(modul)")
    assert (caught.value.kind, caught.value.deterministic) == ("preparation", True)
    assert caught.value.remembered
    with pytest.raises(CodeTooLarge, match="limit"):
        wasm.prepare_in_child(CODE, {"code_limit": 3})
    with pytest.raises(TypeError):
        wasm.prepare_in_child("text")


@pytest.fixture
def few_processes() -> Iterator[None]:
    """A compiler that is refused its threads, by a limit that root is not above."""
    group = Path(f"/sys/fs/cgroup/pids/registry-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs a control group for process numbers (version 1), and root")
    here = Path("/proc/self/cgroup").read_text()
    (before,) = [line.split(":")[2] for line in here.splitlines() if ":pids:" in line]
    (group / "pids.max").write_text(str(len(os.listdir("/proc/self/task")) + 20))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        Path("/sys/fs/cgroup/pids", before.lstrip("/"), "cgroup.procs").write_text(str(os.getpid()))
        for _ in range(500):
            if not (group / "cgroup.procs").read_text():
                break
            time.sleep(0.01)
        group.rmdir()


@pytest.mark.usefixtures("few_processes")
def test_a_compiler_that_is_refused_its_threads_ends_only_its_own_process(cache: Path, monkeypatch):
    monkeypatch.setenv("RAYON_NUM_THREADS", "64")
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    with Registry(cache) as registry:
        with pytest.raises(InternalError, match="not remembered"):
            registry.get_or_prepare(
                wasm.artifact_id(CODE), lambda: wasm.prepare_in_child(large_module())
            )
        assert list(registry.artifacts()) == []
        command = [sys.executable, "-m", "registry", "--cache", str(cache), "run", "--invoke", "f"]
        file = cache.parent / "f.wat"
        file.write_bytes(CODE)
        done = subprocess.run([*command, file, "5"], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr  # and no abort of the command itself


def test_a_compiler_that_is_refused_memory_is_not_remembered(tmp_path: Path, monkeypatch):
    python, launcher = sys.executable, tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(launcher))
    code = b"(module" + b" " * 10 * 1024**2 + b")"
    refused: list[PrepareError] = []
    for mebibytes in range(4, 400, 4):
        launcher.write_text(f'#!/bin/sh\nulimit -d {1024 * mebibytes}\nexec {python} "$@"\n')
        launcher.chmod(0o755)
        try:
            wasm.prepare_in_child(code)
        except PrepareError as error:
            refused.append(error)
        else:
            break
    assert refused
    assert [str(error) for error in refused if error.remembered] == []


def test_a_compiler_killed_from_outside_is_not_remembered(tmp_path: Path, monkeypatch):
    launcher = tmp_path / "python"
    launcher.write_text(f"#!/bin/sh\nkill -{signal.SIGTERM} $$\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    with pytest.raises(PrepareError, match="signal 15") as caught:
        wasm.prepare_in_child(CODE)
    assert not caught.value.remembered


def test_a_host_with_little_memory_destroys_nobodys_artifact(cache: Path):
    code = large_module()
    ask = {"invoke": "f1", "args": [4]}

    async def tell() -> None:
        async with (
            AsyncRegistry(cache) as registry,
            Host(registry, "registry.wasm") as large,
            Host(registry, "registry.wasm", memory_limit=16 << 20) as small,
        ):
            assert (await large.execute(code, {}, ask))["values"] == [4]
            for _ in range(2):
                with pytest.raises(InternalError, match="is kept"):
                    await small.execute(code, {}, ask)
            assert (await registry.stats()).totals["damaged"] == 0
            assert (await registry.stats()).totals["published"] == 1
            assert (await large.execute(code, {}, ask))["values"] == [4]

    asyncio.run(tell())


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "noexec"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "registry", str(place)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root, who may mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_cache_mounted_noexec_is_told_and_keeps_its_artifacts(noexec: Path):
    cache = noexec / "cache"
    with Registry(cache) as registry:
        made = registry.get_or_prepare(wasm.artifact_id(CODE), lambda: wasm.prepare(CODE))
        assert made.path is not None
        with pytest.raises(InternalError, match="mounted noexec"):
            wasm.execute(made.path, ASK)

    async def tell() -> None:
        async with AsyncRegistry(cache) as registry, Host(registry, "registry.wasm") as host:
            for _ in range(2):
                with pytest.raises(InternalError, match="mounted noexec") as caught:
                    await host.execute(CODE, {}, ASK)
                assert caught.value.kind == "noexec"
            assert (await registry.stats()).totals["damaged"] == 0

    asyncio.run(tell())
    assert made.path.exists()
