"""Preparations that need each other: told at once, where one process can see it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from support.threads import PATIENCE, crew

from registry import (
    ArtifactId,
    PreparationFailed,
    RecursivePreparation,
    Registry,
    State,
)

IDS = [ArtifactId.of(b"%d" % number) for number in range(4)]


def cause_of(error: BaseException | None) -> BaseException | None:
    """What a failure began with."""
    while isinstance(error, PreparationFailed) and error.__cause__ is not None:
        error = error.__cause__
    return error


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("verb", ["get_or_prepare", "wait"])
def test_threads_that_wait_for_each_other_are_told_at_once(
    cache: Path, size: int, verb: str
) -> None:
    begun = threading.Barrier(size)
    with ExitStack() as stack:
        handles = [stack.enter_context(Registry(cache)) for _ in range(size)]

        def ask(number: int) -> BaseException | None:
            needed, handle = IDS[(number + 1) % size], handles[number]

            def prepare() -> bytes:
                begun.wait(PATIENCE)
                if verb == "wait":
                    handle.wait(needed)
                else:
                    handle.get_or_prepare(needed, lambda: b"never")
                return b"made"

            try:
                handles[number].get_or_prepare(IDS[number], prepare)
            except PreparationFailed as error:
                return error
            return None

        with crew(size) as pool:
            errors = [one.result(PATIENCE) for one in [pool.submit(ask, n) for n in range(size)]]
        causes = [cause_of(error) for error in errors]
        assert any(isinstance(cause, RecursivePreparation) for cause in causes), causes
        told = next(str(cause) for cause in causes if isinstance(cause, RecursivePreparation))
        assert f"{IDS[0].short} needs" in told
        assert handles[0].check().ok


def test_who_only_waits_for_the_same_is_not_refused(registry: Registry, cache: Path) -> None:
    """Two that need a third, and that they are needed by others, is no cycle."""
    begun, go_on = threading.Barrier(3), threading.Event()

    def base() -> bytes:
        begun.wait(PATIENCE)
        assert go_on.wait(PATIENCE)
        return b"base"

    def needing(other: ArtifactId) -> Callable[[], bytes]:
        def prepare() -> bytes:
            begun.wait(PATIENCE)
            return registry.get_or_prepare(other, lambda: b"never").id.code_hash.encode()

        return prepare

    with crew(4) as pool:
        asked = [
            pool.submit(registry.get_or_prepare, IDS[0], base),
            pool.submit(registry.get_or_prepare, IDS[1], needing(IDS[0])),
            pool.submit(registry.get_or_prepare, IDS[2], needing(IDS[0])),
        ]
        last = pool.submit(registry.get_or_prepare, IDS[3], lambda: read(registry, IDS[2]))
        go_on.set()
        states = [one.result(PATIENCE).state for one in (*asked, last)]
    assert states == [State.PREPARED] * 4
    assert registry.check().ok


def read(registry: Registry, id: ArtifactId) -> bytes:
    registry.wait(id, timeout=timedelta(seconds=PATIENCE))
    return b"made"


def test_the_same_ids_in_two_caches_are_no_cycle(registry: Registry, tmp_path: Path) -> None:
    begun = threading.Event()
    with Registry(tmp_path / "other") as other, crew(2) as pool:

        def outer() -> bytes:
            begun.set()
            return other.get_or_prepare(IDS[1], lambda: b"made").id.code_hash.encode()

        def inner() -> bytes:
            assert begun.wait(PATIENCE)
            return b"made"

        asked = [
            pool.submit(registry.get_or_prepare, IDS[0], outer),
            pool.submit(other.get_or_prepare, IDS[1], inner),
        ]
        assert {one.result(PATIENCE).state for one in asked} == {State.PREPARED}
