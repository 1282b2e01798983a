"""Get or prepare: however many ask, one prepares, and its failure is everybody's."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import failed, prepared
from support.tables import files, rows, snapshot

from registry import (
    Artifact,
    ArtifactId,
    CacheDirectoryRefused,
    CodeTooLarge,
    InvalidData,
    InvalidSetting,
    PreparationFailed,
    PrepareError,
    RecursivePreparation,
    Registry,
    State,
)

NEVER = timedelta(0)


class Interruption(BaseException):
    """What Ctrl-C and a cancellation have in common: they are no Exception."""


def compiled() -> bytes:
    return b"compiled"


def must_not_run() -> bytes:
    raise AssertionError("this must not be prepared now")


def raising(error: BaseException) -> Callable[[], bytes]:
    def prepare() -> bytes:
        raise error

    return prepare


def failure_of(registry: Registry, id: ArtifactId, prepare: Callable[[], object]) -> Artifact:
    """Ask for what cannot be prepared; answer the failed artifact."""
    with pytest.raises(PreparationFailed) as caught:
        registry.get_or_prepare(id, prepare)  # type: ignore[arg-type]
    assert caught.value.artifact is not None
    return caught.value.artifact


# --- success ------------------------------------------------------------------------------------


def test_the_first_to_ask_prepares_and_the_next_ones_find_it(
    registry: Registry, other: Registry, id: ArtifactId
) -> None:
    first = registry.get_or_prepare(id, compiled, label="primes.wat")
    assert (first.state, first.size, first.label) == (State.PREPARED, 8, "primes.wat")
    for handle in (registry, other):
        again = handle.get_or_prepare(id, must_not_run)
        assert again.path == first.path


def test_what_is_found_is_bumped(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId
) -> None:
    first = prepared(registry, id)
    clock.tick(timedelta(seconds=5))
    again = registry.get_or_prepare(id, must_not_run)
    assert first.last_time_needed is not None
    assert again.last_time_needed == first.last_time_needed + timedelta(seconds=5)
    assert registry.get(id) == again


def test_a_file_can_be_what_was_prepared(
    registry: Registry, cache: Path, id: ArtifactId, tmp_path: Path
) -> None:
    made = tmp_path / "made"

    def prepare() -> Path:
        made.write_bytes(b"compiled")
        return made

    registry.get_or_prepare(id, prepare)
    assert list(files(cache).values()) == [b"compiled"]
    assert not made.exists()


def test_what_vanished_is_prepared_again(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    registry.remove(id)
    assert registry.get_or_prepare(id, compiled).size == 8


@pytest.mark.parametrize("gone", ["artifacts", "."], ids=["its folder", "the whole cache"])
@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "a file"])
def test_where_the_cache_was_removed_it_is_prepared_once_and_told(
    registry: Registry, id: ArtifactId, cache: Path, tmp_path: Path, gone: str, as_file: bool
) -> None:
    """What is prepared can be kept nowhere; to prepare it again and again would never end."""
    shutil.rmtree(cache / gone)
    made, calls = tmp_path / "made", []

    def prepare() -> bytes | Path:
        calls.append(id)
        assert len(calls) == 1
        made.write_bytes(b"compiled")
        return made if as_file else b"compiled"

    with pytest.raises(CacheDirectoryRefused, match="artifacts/ was removed"):
        registry.get_or_prepare(id, prepare)
    assert registry.get(id) is None
    assert made.read_bytes() == b"compiled"
    with Registry(cache) as anew:
        assert anew.get_or_prepare(id, compiled).size == 8


def test_preparing_one_artifact_may_need_another(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    inner, outer = new_id(), new_id()

    def prepare() -> bytes:
        path = registry.get_or_prepare(inner, compiled).path
        assert path is not None
        return path.read_bytes() + b" and linked"

    assert registry.get_or_prepare(outer, prepare).size == len(b"compiled and linked")


# --- failure ------------------------------------------------------------------------------------


def test_a_failure_is_raised_from_its_cause(registry: Registry, id: ArtifactId) -> None:
    cause = ValueError("odd code")
    with pytest.raises(PreparationFailed, match="odd code") as caught:
        registry.get_or_prepare(id, raising(cause), label="primes.wat")
    assert caught.value.__cause__ is cause
    assert caught.value.artifact == registry.get(id)
    told = caught.value.artifact
    assert told is not None
    assert (told.state, told.error, told.error_kind) == (State.FAILED, "odd code", "ValueError")
    assert told.num_failures == 1
    assert told.retry_at is not None
    assert "primes.wat" in str(caught.value)


def test_a_deterministic_failure_says_so(registry: Registry, id: ArtifactId) -> None:
    told = failure_of(registry, id, raising(PrepareError("bad code", kind="compile")))
    assert (told.error_kind, told.retry_at) == ("compile", None)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_that_may_not_be_tried_yet_is_answered_as_it_stands(
    retryable: bool, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    told = failed(registry, id, retryable=retryable)
    before = snapshot(cache)
    assert failure_of(other, id, must_not_run) == told
    assert snapshot(cache) == before


def test_an_exception_that_is_falsy_is_a_failure_all_the_same(
    registry: Registry, id: ArtifactId
) -> None:
    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    told = failure_of(registry, id, raising(Empty("no errors in the list")))
    assert told.error == "no errors in the list"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit, Interruption])
@pytest.mark.parametrize("failures", [0, 1])
def test_an_interruption_leaves_everything_as_it_was_before(
    stop: type[BaseException], failures: int, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    if failures:
        failed(registry, id)
        registry.retry(id)
    before = snapshot(cache)
    with pytest.raises(stop):
        registry.get_or_prepare(id, raising(stop()))
    assert snapshot(cache) == before
    assert registry.get_or_prepare(id, compiled).state is State.PREPARED


def test_a_preparation_that_was_too_slow_takes_what_another_made_meanwhile(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, cache: Path, id: ArtifactId
) -> None:
    def slow() -> bytes:
        clock.tick(timedelta(hours=1))
        prepared(other, id, 100)
        return b"compiled too late"

    assert registry.get_or_prepare(id, slow).size == 100
    assert len(files(cache)) == 1


def test_a_failure_that_came_too_late_does_not_count(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    def slow() -> bytes:
        clock.tick(timedelta(hours=1))
        prepared(other, id, 100)
        raise ValueError("too late")

    assert registry.get_or_prepare(id, slow).size == 100


def test_code_that_is_too_large_is_told_and_not_remembered(registry: Registry) -> None:
    artifact_id = ArtifactId.of(b"large")

    def prepare() -> bytes:
        raise CodeTooLarge("12 MiB is the limit")

    with pytest.raises(CodeTooLarge, match="12 MiB"):
        registry.get_or_prepare(artifact_id, prepare)
    assert registry.get(artifact_id) is None


# --- misuse -------------------------------------------------------------------------------------


class Compiler:
    async def __call__(self) -> bytes:
        return compiled()


async def coroutine() -> bytes:
    return b"compiled"


@pytest.mark.parametrize(
    "wrong",
    [
        b"compiled",
        None,
        coroutine,
        functools.partial(coroutine),
        Compiler(),
        functools.partial(Compiler()),
    ],
    ids=["bytes", "None", "coroutine function", "partial of one", "called as one", "partial of it"],
)
def test_prepare_is_a_plain_function(
    wrong: object, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    with pytest.raises(TypeError):
        registry.get_or_prepare(id, wrong)  # type: ignore[arg-type]
    assert rows(cache) == []


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"prepare": None}, TypeError),
        ({"timeout": 5}, TypeError),
        ({"timeout": timedelta(-1)}, InvalidSetting),
        ({"label": 5}, TypeError),
        ({"label": "a\0"}, InvalidData),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_whether_they_matter_or_not(
    wrong: dict[str, Any],
    refusal: type[Exception],
    registry: Registry,
    other: Registry,
    id: ArtifactId,
) -> None:
    arguments: dict[str, Any] = {"prepare": lambda: b"compiled", **wrong}
    with pytest.raises(refusal):
        registry.get_or_prepare(id, **arguments)  # unknown
    prepared(registry, id)
    with pytest.raises(refusal):
        other.get_or_prepare(id, **arguments)  # prepared
    other.need(id)
    with pytest.raises(refusal):
        other.get_or_prepare(id, **arguments)  # and hot


@pytest.mark.parametrize("verb", ["get_or_prepare", "wait"])
@pytest.mark.parametrize("through", ["the same handle", "another handle", "another path"])
def test_a_prepare_that_needs_its_own_artifact_is_told_at_once(
    verb: str, through: str, registry: Registry, cache: Path, id: ArtifactId, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(tmp_path)
    with Registry(cache) as other, Registry(tmp_path / "alias" / cache.name) as alias:
        handle = {"the same handle": registry, "another handle": other, "another path": alias}

        def prepare() -> bytes:
            asked = handle[through]
            if verb == "wait":
                asked.wait(id, timeout=timedelta(seconds=1))
            else:
                asked.get_or_prepare(id, compiled, timeout=timedelta(seconds=1))
            return b"never"

        with pytest.raises(PreparationFailed) as caught:
            registry.get_or_prepare(id, prepare)
    assert isinstance(caught.value.__cause__, RecursivePreparation)


def test_in_a_prepare_a_claim_answers_as_it_stands(registry: Registry, id: ArtifactId) -> None:
    told: list[object] = []

    def prepare() -> bytes:
        told.extend([registry.claim(id), registry.get(id), registry.need(id)])
        return b"compiled"

    registry.get_or_prepare(id, prepare)
    states = [artifact and artifact.state for artifact in told if isinstance(artifact, Artifact)]
    assert states == [State.PREPARING, State.PREPARING]
    assert told[2] is None


def test_the_same_id_in_another_cache_is_another_artifact(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    with Registry(tmp_path / "elsewhere") as elsewhere:
        path = elsewhere.get_or_prepare(id, compiled).path

        def prepare() -> bytes:
            assert path is not None
            assert elsewhere.get_or_prepare(id, must_not_run).path == path
            return path.read_bytes()

        assert registry.get_or_prepare(id, prepare).size == 8
