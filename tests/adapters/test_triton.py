"""Triton itself, in its oldest and its newest release: each kernel compiled once per machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes.traces import assert_clean
from support.environments import Environment, environment

from registry import Registry, process_handles
from registry.triton import CacheManager, _folders, _keyed

USER = Path(__file__).parent / "triton_user.py"
MANAGER = {"TRITON_CACHE_MANAGER": "registry.triton:CacheManager"}


@pytest.fixture(params=["triton==3.2.0", "triton>=3.9"], ids=["oldest", "newest"])
def triton(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    return environment(tmp_path, request.param, "setuptools")


@pytest.fixture
def users_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache that the manager finds in this process; its handle is closed in the end."""
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))
    yield cache
    _folders.clear()
    for key in list(process_handles._handles):
        process_handles._handles.pop(key).close()


def variables(cache: Path, tmp_path: Path) -> dict[str, str]:
    own = {"TRITON_CACHE_DIR": str(tmp_path / "own"), "TRITON_HOME": str(tmp_path)}
    return {"REGISTRY_CACHE": str(cache), **own, **MANAGER}


def result(printed: str) -> list[int]:
    return [int(it) for it in printed.strip().splitlines()[-1].split()[1:]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_processes_that_start_at_once_compile_each_kernel_once(
    triton: Environment, cache: Path, tmp_path: Path
) -> None:
    done = [result(it) for it in triton.run_at_once(4, USER, "wait", **variables(cache, tmp_path))]

    assert sum(compiled for compiled, *_ in done) == 4
    assert len({tuple(sizes) for _, *sizes in done}) == 1
    assert [it.label for it in assert_clean(cache)] == ["triton add"] * 4
    assert not (tmp_path / "own").exists()
    compiled, *sizes = result(triton.run(USER, **variables(cache, tmp_path)))
    assert (compiled, sizes) == (0, done[0][1:])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_damaged_group_is_compiled_again(
    triton: Environment, cache: Path, tmp_path: Path
) -> None:
    first = result(triton.run(USER, **variables(cache, tmp_path)))
    for number, file in enumerate(sorted((cache / "artifacts").iterdir())):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] if number % 2 else b"\x00" + data[1:])

    again = result(triton.run(USER, **variables(cache, tmp_path)))

    assert first == again
    assert len(assert_clean(cache)) == 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_usable_cache_triton_compiles_and_warns_once(
    triton: Environment, cache: Path, tmp_path: Path
) -> None:
    cache.write_bytes(b"no directory")

    printed = triton.run(USER, **variables(cache, tmp_path))

    assert result(printed)[0] == 4
    assert printed.count("compiles without the cache") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dumps_and_overrides_are_tritons_own(
    triton: Environment, cache: Path, tmp_path: Path
) -> None:
    dump = {"TRITON_KERNEL_DUMP": "1", "TRITON_DUMP_DIR": str(tmp_path / "dump")}
    triton.run(USER, **variables(cache, tmp_path), **dump)
    assert len(list((tmp_path / "dump").glob("*/add.ptx"))) >= 1

    over = {"TRITON_KERNEL_OVERRIDE": "1", "TRITON_OVERRIDE_DIR": str(tmp_path / "dump")}
    always = {"TRITON_ALWAYS_COMPILE": "1"}
    printed = triton.run(USER, **variables(cache, tmp_path), **over, **always)

    assert "Overriding kernel with file" in printed


# --- what Triton does, without Triton ------------------------------------------------------------


def compile_one(manager: Any) -> dict[str, str]:
    """What `triton.compile` does with its manager at a miss."""
    group = {"k.ptx": manager.put("text", "k.ptx"), "k.cubin": manager.put(b"\0\1", "k.cubin")}
    group["k.json"] = manager.put(json.dumps({"a": 1}), "k.json", binary=False)
    manager.put_group("k.json", group)
    return group


def test_a_group_is_one_artifact_and_comes_back_whole(users_cache: Path) -> None:
    manager = CacheManager("KEY")
    assert manager.get_group("k.json") is None
    compile_one(manager)

    found = CacheManager("KEY").get_group("k.json")

    assert found is not None
    assert {name: Path(path).read_bytes() for name, path in found.items()} == {
        "k.ptx": b"text",
        "k.cubin": b"\0\1",
        "k.json": b'{"a": 1}',
    }
    assert [Path(path).name for path in found.values()] == list(found)
    with Registry(users_cache) as registry:
        assert [it.label for it in registry.artifacts()] == ["triton k"]
    assert CacheManager("OTHER").get_group("k.json") is None


def test_a_single_file_is_stored_by_itself(users_cache: Path) -> None:
    manager = CacheManager("KEY")
    assert manager.get_file("launcher.so") is None
    path = manager.put(b"ELF", "launcher.so")
    assert Path(path).read_bytes() == b"ELF"
    assert manager.get_file("launcher.so") == path
    assert Path(CacheManager("KEY").get_file("launcher.so") or "").read_bytes() == b"ELF"


def test_a_manager_that_goes_without_a_put_keeps_nobody_waiting(users_cache: Path) -> None:
    manager = CacheManager("KEY")
    assert manager.get_group("k.json") is None
    manager.put("text", "k.ptx")
    del manager  # the compiler raised

    second = CacheManager("KEY")
    assert second.get_group("k.json") is None  # at once, or after the release
    compile_one(second)
    assert CacheManager("KEY").get_group("k.json") is not None


@pytest.mark.parametrize("packed", [b"no msgpack at all", b"\x01", b"\x81\xa4../x\xc4\x01a"])
def test_what_is_no_group_is_a_miss_and_heals(users_cache: Path, packed: bytes) -> None:
    _keyed.put("group k.json", packed, group="KEY")

    manager = CacheManager("KEY")
    assert manager.get_group("k.json") is None
    compile_one(manager)

    assert CacheManager("KEY").get_group("k.json") is not None


def test_its_files_are_gone_when_the_process_is(users_cache: Path) -> None:
    words = (
        "from registry.triton import CacheManager\n"
        "m = CacheManager('KEY'); assert m.get_group('k.json') is None\n"
        "print(m.put('text', 'k.ptx'))"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert str(users_cache) in done.stdout
    assert not Path(done.stdout.strip()).exists()


def test_importing_it_imports_no_triton() -> None:
    words = "import sys, registry.triton; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
