"""Decorated functions: what they built is found again, by every process, by name and arguments."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import registry as package
from registry import (
    Artifact,
    AsyncRecipe,
    AsyncRegistry,
    HandleForked,
    InvalidParams,
    PreparationFailed,
    Recipe,
    Registry,
    prepared,
    recipe,
)
from registry.recipe import Terms

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def users_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not told of a cache finds this one."""
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))


class Builder:
    """A function that builds bytes, and counts how often it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __call__(self, source: bytes, arch: str = "native", *, debug: bool = False) -> bytes:
        self.calls.append((source, arch, debug))
        return b"%s for %s" % (source, arch.encode())


def build_of(builder: Builder) -> Callable[..., bytes]:
    def build(source: bytes, arch: str = "native", debug: bool = False) -> bytes:
        """Compile."""
        return builder(source, arch, debug=debug)

    return build


def test_a_call_builds_once_and_answers_the_bytes() -> None:
    builder = Builder()
    build = prepared(version=1, name="build")(build_of(builder))
    assert build(b"code", "gpu") == b"code for gpu"
    assert build(b"code", "gpu") == b"code for gpu"
    assert builder.calls == [(b"code", "gpu", False)]


def test_each_call_is_one_need(registry: Registry) -> None:
    build = registry.artifact(version=1, name="build")(build_of(Builder()))
    for _ in range(3):
        build(b"code")
    assert (registry.counters.misses, registry.counters.hits) == (1, 2)


def test_each_call_in_a_loop_is_one_need(cache: Path) -> None:
    async def counted() -> tuple[int, int]:
        async with AsyncRegistry(cache) as registry:
            build = registry.artifact(version=1, name="build")(build_of(Builder()))
            for _ in range(3):
                await build(b"code")
            return registry.counters.misses, registry.counters.hits

    assert asyncio.run(counted()) == (1, 2)


def test_arguments_count_however_they_are_written(registry: Registry) -> None:
    build = registry.artifact(version=1, name="build")(build_of(Builder()))
    assert build.id(b"code") == build.id(source=b"code", arch="native", debug=False)
    assert build.id(b"code") != build.id(b"code", "gpu")
    assert build.id(b"code") != build.id(b"code", debug=True)


def test_another_version_or_another_function_is_another_artifact(registry: Registry) -> None:
    def other(source: bytes) -> bytes:
        return source

    first = registry.artifact(version="gcc 12", name="build")(build_of(Builder())).id(b"code")
    second = registry.artifact(version="gcc 13", name="build")(build_of(Builder())).id(b"code")
    assert first.code_hash == second.code_hash
    assert first.prep_hash != second.prep_hash
    assert registry.artifact(version="gcc 12")(other).id(b"code").code_hash != first.code_hash


VALUES: list[Any] = [
    None, True, 1, 1.0, "1", b"1", bytearray(b"1"), [1], [[1]], (1,), [(1,)],
    ["float", "3ff0000000000000"], {"a": 1}, {}, [], (), ["bytes", "1"], ["list", 1], [1, 2], 1.5,
    float("inf"), float("nan"), 0.0, -0.0, 0, False, "", b"", -1, 2**64, 2**64 + 1, 10**5000,
    ["int", hex(2**64)], {"a": {}}, {"a": []},
]  # fmt: skip


def test_values_that_differ_are_told_apart() -> None:
    terms = Terms(lambda value: b"", 1, name="f")
    assert len({terms.id(value) for value in VALUES}) == len(VALUES)


def test_the_order_of_keys_does_not_matter() -> None:
    terms = Terms(lambda value: b"", 1, name="f")
    assert terms.id({"a": 1, "b": 2}) == terms.id({"b": 2, "a": 1})


class Arch(IntEnum):
    SM_80 = 1


class Level(StrEnum):
    FAST = "1"


class Text(str):
    __slots__ = ()


class Numbers(dict[str, int]):
    pass


class Item:
    """Like a scalar of numpy: a number in a box."""

    def item(self) -> int:
        return 1


def nested(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


def endless() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


REFUSED = [
    (Path("x"), "str"),
    (object(), "made of"),
    ({1: 2}, "items"),
    ({"a": [object()]}, "made of"),
    ({1, 2}, "sorted"),
    (frozenset(), "sorted"),
    (Arch.SM_80, ".value"),
    (Level.FAST, ".value"),
    (Text("x"), r"str\(\)"),
    (Numbers(), r"dict\(\)"),
    ({Text("x"): 1}, "items"),
    (memoryview(array("i", [300])), "bytes"),
    (array("i", [300]), "bytes"),
    (Item(), r"\.item\(\)"),
    (datetime(2026, 1, 1, tzinfo=UTC), "made of"),
    (Decimal(1), "made of"),
    ("\udcff", "fsencode"),
    ({"\udcff": 1}, "fsencode"),
    (nested(200), "flat"),
    (endless(), "flat"),
]


@pytest.mark.parametrize(("value", "advice"), REFUSED)
def test_an_argument_without_a_canonical_form_is_refused(
    registry: Registry, value: object, advice: str
) -> None:
    @registry.artifact(version=1)
    def build(argument: object) -> bytes:
        raise AssertionError("called")

    with pytest.raises(InvalidParams, match=f"argument.*{advice}"):
        build(value)
    assert list(registry.artifacts()) == []


@pytest.mark.parametrize(
    "value", [nested(90), nested(5000), {"k" * 10**5: object()}, {10**5000: 1}], ids=len
)
def test_a_refusal_tells_which_argument_in_a_few_words(value: object) -> None:
    deep = value
    while isinstance(deep, list) and deep:
        deep = deep[0]
    if isinstance(deep, list):
        deep.append(object())
    with pytest.raises(InvalidParams, match="argument") as caught:
        Terms(lambda argument: b"", 1, name="f").id(value)
    assert len(str(caught.value)) < 400


def test_a_call_whose_arguments_do_not_fit_names_the_function() -> None:
    terms = Terms(lambda argument: b"", 1, name="kernel")
    with pytest.raises(TypeError, match="kernel: missing a required argument: 'argument'"):
        terms.id()
    with pytest.raises(TypeError, match="kernel: got an unexpected keyword argument 'arch'"):
        terms.id(1, arch=2)


def test_a_version_without_a_canonical_form_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidParams, match="version is a object"):
        prepared(version=object(), name="build")(build_of(Builder()))


def test_a_key_says_what_counts(registry: Registry) -> None:
    @registry.artifact(version=1, key=lambda path, verbose=False: path.read_bytes())
    def build(path: Path, verbose: bool = False) -> bytes:
        return path.read_bytes() * 2

    file = registry.cache_dir.parent / "source"
    file.write_bytes(b"one")
    assert (build(file), build(file, verbose=True)) == (b"oneone", b"oneone")
    file.write_bytes(b"two")
    assert build(file) == b"twotwo"
    assert len(list(registry.artifacts())) == 2


def test_people_see_the_functions_name_or_the_label(registry: Registry) -> None:
    plain = registry.artifact(version=1, name="build")(build_of(Builder()))
    named = registry.artifact(
        version=2, name="build", label=lambda source, arch, debug: f"kernel for {arch}"
    )(build_of(Builder()))
    assert plain.artifact(b"code").label == "build(b'code', 'native', False)"
    assert named.artifact(b"code").label == "kernel for native"
    assert named.artifact(b"code", "gpu").label == "kernel for gpu"


def test_a_label_shows_the_arguments_in_one_short_line(registry: Registry) -> None:
    @registry.artifact(version=1, name="it", key=lambda *parts, **options: str(next(calls)))
    def build(*parts: object, **options: object) -> bytes:
        return b"it"

    def label(*parts: object, **options: object) -> str | None:
        return build.artifact(*parts, **options).label

    calls = count()

    assert label("add", arch="sm_90") == "build('add', arch='sm_90')"
    assert label("a\nb\x1b", None, 1.5) == r"build('a\nb\x1b', None, 1.5)"
    assert label([1] * 10**6, {}, Builder()) == "build(<list of 1000000>, <dict of 0>, <Builder>)"
    assert label(10**5000) == "build(<int>)"
    assert label("x" * 100) == f"build('{'x' * 24}'...)"
    assert len(label(*"y" * 10**5, **{"z" * 200: 1})) == 80


def test_it_looks_like_the_function() -> None:
    function = build_of(Builder())
    build = prepared(version=1, name="build")(function)
    assert isinstance(build, Recipe)
    assert (build.__name__, build.__doc__, build.__wrapped__) == ("build", "Compile.", function)
    assert "build" in repr(build)


def test_removing_lets_it_be_built_again() -> None:
    builder = Builder()
    build = prepared(version=1, name="build")(build_of(builder))
    build(b"code")
    assert build.remove(b"code")
    assert not build.remove(b"code")
    build(b"code")
    assert len(builder.calls) == 2


def test_a_failure_is_remembered_and_removing_forgets_it(registry: Registry) -> None:
    answers: list[bytes | Exception] = [ValueError("no such target"), b"built"]

    @registry.artifact(version=1, name="build")
    def build() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    for _ in range(2):
        with pytest.raises(PreparationFailed, match="no such target"):
            build()
    assert build.remove()
    assert build() == b"built"


def test_a_file_is_moved_in(registry: Registry, tmp_path: Path) -> None:
    @registry.artifact(version=1, name="build")
    def build() -> Path:
        made = tmp_path / "made"
        made.write_bytes(b"linked")
        return made

    assert build() == b"linked"
    assert not (tmp_path / "made").exists()


def test_what_cannot_be_read_by_its_path_is_looked_after(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by one who is not root, when somebody changed its mode."""
    build = registry.artifact(version=1, name="build")(build_of(Builder()))

    def unreadable(_: Artifact) -> BinaryIO:
        raise PermissionError

    monkeypatch.setattr(recipe, "_open", unreadable)
    assert build(b"code") == b"code for native"


def test_what_is_pruned_before_it_is_read_is_built_again(
    registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Builder()
    build = registry.artifact(version=1, name="build")(build_of(builder))
    opened = recipe._open

    def pruned_first(artifact: Artifact) -> BinaryIO:
        monkeypatch.undo()
        assert other.remove(artifact.id)
        return opened(artifact)

    monkeypatch.setattr(recipe, "_open", pruned_first)
    assert build(b"code") == b"code for native"
    assert len(builder.calls) == 2


def test_the_cache_is_looked_up_at_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Builder()
    build = prepared(version=1, name="build")(build_of(builder))
    build(b"code")
    monkeypatch.setenv("REGISTRY_CACHE", str(tmp_path / "another"))
    build(b"code")
    prepared(version=1, cache=tmp_path / "third", name="build")(build_of(builder))(b"code")
    assert len(builder.calls) == 3
    assert (tmp_path / "third" / "registry.db").exists()


# --- processes ----------------------------------------------------------------------------------

MODULE = """
import os
from registry import prepared

@prepared(version=1)
def build(source: str) -> bytes:
    with open("calls", "a") as calls:
        calls.write(source)
    return source.encode() * 3
"""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH"), str(ROOT)]))
    return subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_processes_share_what_was_built(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(MODULE)
    for _ in range(2):
        done = python(tmp_path, "-c", "import kernels; print(kernels.build('abc'))")
        assert (done.returncode, done.stdout, done.stderr) == (0, "b'abcabcabc'\n", "")
    assert (tmp_path / "calls").read_text() == "abc"


def test_scripts_of_the_same_words_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(MODULE + "build('abc')\n")
        for _ in range(2):
            done = python(tmp_path, name)
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == "abcabc"


def test_a_main_without_a_file_must_name_its_functions(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", MODULE)
    assert done.returncode == 1
    assert "build is in no file" in done.stderr


def test_a_forked_child_opens_a_handle_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text(MODULE)
    script = """
import os, kernels
kernels.build("abc")  # the parent has its handle open
child = os.fork()
if child == 0:
    assert kernels.build("abc") == b"abcabcabc"
    assert kernels.build("xyz") == b"xyzxyzxyz"
    raise SystemExit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert kernels.build("xyz") == b"xyzxyzxyz"
"""
    done = python(tmp_path, "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "calls").read_text() == "abcxyz"


def test_through_a_handle_a_forked_child_is_refused(registry: Registry) -> None:
    build = registry.artifact(version=1, name="build")(build_of(Builder()))
    registry._after_fork()
    with pytest.raises(HandleForked):
        build(b"code")


# --- event loops --------------------------------------------------------------------------------


def test_a_coroutine_function_is_awaited_once() -> None:
    calls = []

    @prepared(version=1, name="build")
    async def build(source: str) -> bytes:
        calls.append(source)
        await asyncio.sleep(0)
        return source.encode()

    async def main() -> list[bytes]:
        assert isinstance(build, AsyncRecipe)
        return await asyncio.gather(*(build("code") for _ in range(10)))

    assert asyncio.run(main()) == [b"code"] * 10
    assert asyncio.run(main()) == [b"code"] * 10  # another loop, another handle
    assert calls == ["code"]
    assert asyncio.run(build.remove("code"))


def test_the_handles_of_ended_loops_are_let_go(registry: Registry) -> None:
    @prepared(version=1)
    async def build() -> bytes:
        return b"built"

    for _ in range(3):
        asyncio.run(build())
    assert len(registry.hosts()) == 2  # ours, and that of the last loop


async def _build_both(cache: Path) -> tuple[bytes, bytes]:
    async with AsyncRegistry(cache) as registry:

        @registry.artifact(version=1)
        async def awaited(n: int) -> bytes:
            return b"%d" % n

        @registry.artifact(version=1)
        def blocking(n: int) -> bytes:
            return b"%d!" % n

        assert awaited.id(1) != blocking.id(1)
        assert (await awaited.artifact(1)).size == 1
        return await awaited(1), await blocking(1)


def test_an_async_handle_takes_both_kinds(cache: Path) -> None:
    assert asyncio.run(_build_both(cache)) == (b"1", b"1!")


def test_a_process_that_leaves_a_loops_handle_open_ends(tmp_path: Path) -> None:
    script = """
import asyncio
from registry import prepared

@prepared(version=1, name="build")
async def build() -> bytes:
    return b"built"

print(asyncio.run(build()))
"""
    done = python(tmp_path, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'built'\n", "")


def test_the_name_is_exported() -> None:
    assert package.prepared is prepared
