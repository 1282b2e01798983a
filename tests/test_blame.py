"""One's own bug is no failure to remember; and failures that are say so, and how to lift them."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tables import files, rows, snapshot

from registry import (
    ArtifactId,
    AsyncRegistry,
    Claim,
    FunctionRefused,
    HandleClosed,
    InvalidData,
    InvalidId,
    InvalidParams,
    PreparationFailed,
    PrepareError,
    Registry,
    prepared,
)
from registry.blame import VARIABLE

ID = ArtifactId.of(b"code")


class Unlicensed(PrepareError, ImportError):
    """A deliberate failure, which is an ImportError as well."""


class Mute:
    """What cannot be written as text."""

    def __str__(self) -> str:
        raise ValueError("no text")


def raising(error: Exception) -> Callable[[], bytes]:
    def prepare() -> bytes:
        raise error

    return prepare


def wrapping(error: Exception) -> Callable[[], bytes]:
    """Raise the error from elsewhere, catch it, clean up, and raise it again."""

    def prepare() -> bytes:
        try:
            return raising(error)()
        except TypeError as caught:
            raise caught from None
        finally:
            two(1, 2)

    return prepare


def two(first: int, second: int) -> bytes:
    return bytes([first, second])


def misspelt() -> bytes:
    return bytez()  # type: ignore[name-defined, no-any-return]  # noqa: F821


def unbound() -> bytes:
    if not two:
        made = b""
    return made


def no_module() -> bytes:
    import no_such_module_anywhere  # type: ignore[import-not-found]  # noqa: F401

    return b""


def bad_group() -> bytes:
    raise ExceptionGroup("of tasks", [NameError("a"), ImportError("b")])


BUGS: dict[str, tuple[Callable[..., Any], type[Exception]]] = {
    "a str": (lambda: "compiled", TypeError),
    "None": (lambda: None, TypeError),
    "an int": (lambda: 5, TypeError),
    "no bytes": (lambda: b"", InvalidData),
    "a path that is gone": (lambda: Path("nothing at all"), InvalidData),
    "a folder": (lambda: Path("/"), InvalidData),
    "no module": (no_module, ModuleNotFoundError),
    "no name in a module": (raising(ImportError("cannot import name")), ImportError),
    "a syntax error": (lambda: compile("f(:", "mine.py", "exec"), SyntaxError),
    "an indentation": (lambda: compile(" f()\n  g()", "mine.py", "exec"), IndentationError),
    "a name": (misspelt, NameError),
    "an unbound name": (unbound, UnboundLocalError),
    "an argument that is missing": (lambda: two(1), TypeError),  # type: ignore[call-arg]
    "one too many": (lambda: two(1, 2, 3), TypeError),  # type: ignore[call-arg]
    "none of the name": (lambda: two(1, second=2, third=3), TypeError),  # type: ignore[call-arg]
    "one twice": (lambda: two(1, first=2), TypeError),  # type: ignore[call-arg, misc]
    "itself": (lambda wanted: b"", TypeError),
    "too many for C": (lambda: len([], []), TypeError),  # type: ignore[call-arg]
    "a keyword for C": (lambda: int("1", bass=2), TypeError),  # type: ignore[call-overload]
    "bound": (lambda: inspect.signature(two).bind(1), TypeError),
    "no function": (lambda: ID(), TypeError),  # type: ignore[operator]
    "a group": (bad_group, ExceptionGroup),
    "an id": (lambda: ArtifactId.parse("odd"), InvalidId),
    "params": (lambda: ArtifactId.of(b"code", {"a": set()}), InvalidParams),
    "a decorator": (lambda: prepared(version=1)(lambda: b""), FunctionRefused),
    "a closed handle": (raising(HandleClosed("closed")), HandleClosed),
}
FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "a value": (raising(ValueError("odd code")), "ValueError"),
    "a type that is not of a call": (raising(TypeError("no such target")), "TypeError"),
    "a call in what is compiled": (raising(TypeError("add takes 2 arguments, not 3")), "TypeError"),
    "a call in it, wrapped": (wrapping(TypeError("add: missing 1 required argument")), "TypeError"),
    "an error without a text": (raising(TypeError(Mute())), "TypeError"),
    "a thread without a text": (raising(RuntimeError(Mute())), "RuntimeError"),
    "an attribute": (raising(AttributeError("odd")), "AttributeError"),
    "a missing input": (raising(FileNotFoundError(2, "no such header")), "FileNotFoundError"),
    "a parser of others": (lambda: ET.fromstring("<a>"), "ParseError"),
    "a deliberate failure": (raising(PrepareError("bad code", kind="compile")), "compile"),
    "a deliberate ImportError": (raising(Unlicensed("no", kind="licence")), "licence"),
    "a group that is not all bugs": (
        raising(ExceptionGroup("of tasks", [NameError("a"), ValueError("b")])),
        "ExceptionGroup",
    ),
}


def through_a_handle(cache: Path, prepare: Callable[[], Any]) -> object:
    with Registry(cache) as registry:
        return registry.get_or_prepare(ID, prepare)


def through_a_decorator(cache: Path, prepare: Callable[[], Any]) -> object:
    with Registry(cache) as registry:
        return registry.artifact(version=1, name="made", source=False)(lambda: prepare())()


def through_a_loop(cache: Path, prepare: Callable[[], Any]) -> object:
    async def ask() -> object:
        async with AsyncRegistry(cache) as registry:
            return await registry.get_or_prepare(ID, prepare)

    return asyncio.run(ask())


def through_an_async_decorator(cache: Path, prepare: Callable[[], Any]) -> object:
    async def made() -> Any:
        return prepare()

    async def ask() -> object:
        async with AsyncRegistry(cache) as registry:
            return await registry.artifact(version=1, name="made", source=False)(made)()

    return asyncio.run(ask())


def in_a_claim(cache: Path, prepare: Callable[[], Any]) -> object:
    with Registry(cache) as registry:
        claim = registry.claim(ID)
        assert isinstance(claim, Claim)
        with claim:
            return claim.publish(prepare())


def in_an_async_claim(cache: Path, prepare: Callable[[], Any]) -> object:
    async def ask() -> object:
        async with AsyncRegistry(cache) as registry:
            claim = await registry.claim(ID)
            async with claim:  # type: ignore[union-attr]
                return await claim.publish(prepare())  # type: ignore[union-attr]

    return asyncio.run(ask())


WAYS = [
    through_a_handle,
    through_a_decorator,
    through_a_loop,
    through_an_async_decorator,
    in_a_claim,
    in_an_async_claim,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("bug", "raised"), BUGS.values(), ids=BUGS)
def test_ones_own_bug_is_raised_and_nothing_is_stored(
    way: Callable[..., object], bug: Callable[[], Any], raised: type[Exception], cache: Path
) -> None:
    for _ in range(2):  # the second time it is called again, and not answered by the first
        with pytest.raises(raised) as caught:
            way(cache, bug)
        assert type(caught.value) is raised
        assert rows(cache) == []
        assert files(cache) == {}
    if "claim" not in way.__name__:  # which has no label, nor a name to tell
        assert any("nothing is remembered" in it for it in caught.value.__notes__)
    with Registry(cache) as registry:
        assert registry.check().ok


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("failing", "kind"), FAILURES.values(), ids=FAILURES)
def test_a_failure_of_the_code_is_stored(
    way: Callable[..., object], failing: Callable[[], Any], kind: str, cache: Path
) -> None:
    with pytest.raises(Exception):  # noqa: B017 - in a claim it is the failure itself
        way(cache, failing)
    assert [(row["state"], row["error_kind"]) for row in rows(cache)] == [("failed", kind)]


def test_a_long_message_is_not_searched_to_its_end(cache: Path) -> None:
    # From each "takes" on, a search for "arguments" would read all that follows: for minutes.
    with Registry(cache) as registry, pytest.raises(PreparationFailed):
        registry.get_or_prepare(ID, raising(TypeError("takes " * 100_000)))


@pytest.mark.parametrize("remembered", [True, False])
def test_a_failure_is_told_in_short_and_stored_in_full(
    remembered: bool, cache: Path, registry: Registry
) -> None:
    error = "first line\n" + "warning\n" * 4000 + "the last line"
    failing = raising(PrepareError(error, remembered=remembered))
    with pytest.raises(PreparationFailed) as caught:
        registry.get_or_prepare(ID, failing, label="kernel")
    said = str(caught.value)
    assert "first line" in said
    assert "the last line" in said
    assert len(said) < 3000
    assert caught.value.artifact is not None
    assert caught.value.artifact.error == error
    if remembered:
        with pytest.raises(PreparationFailed) as again:
            registry.get_or_prepare(ID, failing)
        assert str(again.value) == said
        told = re.search(r"`(registry show \S+ --cache \S+)`", said)
        assert told is not None
        line = [sys.executable, "-m", *told[1].split()]
        shown = subprocess.run(line, check=True, capture_output=True, timeout=60, text=True)
        assert shown.stdout.count("warning") == 4000


def test_a_short_failure_is_told_in_full(registry: Registry) -> None:
    error = "x" * 2000
    with pytest.raises(PreparationFailed, match=error):
        registry.get_or_prepare(ID, raising(ValueError(error)))


def test_a_bug_leaves_an_earlier_failure_as_it_was(cache: Path, registry: Registry) -> None:
    with pytest.raises(PreparationFailed):
        registry.get_or_prepare(ID, raising(ValueError("odd code")))
    registry.retry(ID)
    before = snapshot(cache)
    with pytest.raises(NameError):
        registry.get_or_prepare(ID, misspelt)
    assert snapshot(cache) == before


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize("again", [False, True])
def test_a_stored_failure_says_since_when_and_the_command_that_lifts_it(
    again: bool, retryable: bool, cache: Path, registry: Registry
) -> None:
    failing = raising(PrepareError("bad code", deterministic=not retryable))
    for _ in range(1 + again):
        with pytest.raises(PreparationFailed) as caught:
            registry.get_or_prepare(ID, failing, label="kernel")
    said = re.search(
        r"remembered since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC; "
        r".*`(registry retry \S+ --cache \S+)`",
        str(caught.value),
    )
    assert said is not None, caught.value
    stored = registry.get(ID)
    assert stored is not None
    assert stored.last_time_failed is not None
    assert said[1] == f"{stored.last_time_failed:%Y-%m-%d %H:%M:%S}"
    words = [sys.executable, "-m", *said[2].split()]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    assert registry.get_or_prepare(ID, lambda: b"compiled").size == 8


# --- developing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("off", ["0", "no", "False", " off "])
@pytest.mark.parametrize("way", WAYS)
def test_without_remembering_nothing_is_stored(
    way: Callable[..., object], off: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, off)
    with pytest.raises((PreparationFailed, ValueError), match="odd code") as caught:
        way(cache, raising(ValueError("odd code")))
    assert rows(cache) == []
    if isinstance(caught.value, PreparationFailed):
        assert isinstance(caught.value.__cause__, ValueError)
        assert VARIABLE in str(caught.value)
        assert caught.value.artifact is not None
        assert caught.value.artifact.error_kind == "ValueError"


@pytest.mark.parametrize("retryable", [True, False])
def test_without_remembering_a_stored_failure_is_tried_again_here_and_only_here(
    retryable: bool, cache: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PreparationFailed, match="stored"):
        registry.get_or_prepare(ID, raising(PrepareError("stored", deterministic=not retryable)))
    before = snapshot(cache)
    with monkeypatch.context() as here:
        here.setenv(VARIABLE, "0")
        for _ in range(3):
            with pytest.raises(PreparationFailed, match="newer"):
                registry.get_or_prepare(ID, raising(ValueError("newer")))
            assert snapshot(cache) == before
    with pytest.raises(PreparationFailed, match="stored"):  # as in any process that obeys
        registry.get_or_prepare(ID, lambda: b"compiled")
    monkeypatch.setenv(VARIABLE, "0")
    assert registry.get_or_prepare(ID, lambda: b"compiled").size == 8
    assert registry.check().ok


def test_without_remembering_what_another_fails_to_prepare_is_tried_here(
    cache: Path, registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = other.claim(ID)
    assert isinstance(claim, Claim)
    monkeypatch.setenv(VARIABLE, "0")
    waiting = asyncio.run(_joined(cache, claim))
    assert waiting == 8


async def _joined(cache: Path, claim: Claim) -> int | None:
    async with AsyncRegistry(cache) as registry:
        asked = asyncio.create_task(registry.get_or_prepare(ID, lambda: b"compiled"))
        for _ in range(1000):  # by then it waits, or would claim an artifact that has failed
            await asyncio.sleep(0)
        claim.fail("it went wrong", retryable=False)
        return (await asked).size
