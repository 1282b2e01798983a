"""Many ask for the same artifact at once: one prepares, the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from support.making import claimed
from support.tables import row
from support.threads import PATIENCE, crew, waiters

from registry import Artifact, ArtifactId, PreparationFailed, Registry, State, WaitTimeout

NEVER = timedelta(0)


class Interruption(BaseException):
    """What Ctrl-C and a cancellation have in common: they are no Exception."""


def compiled() -> bytes:
    return b"compiled"


def must_not_run() -> bytes:
    raise AssertionError("this must not be prepared now")


def failure_of(registry: Registry, id: ArtifactId, prepare: Callable[[], bytes]) -> Artifact:
    """Ask for what cannot be prepared; answer the failed artifact."""
    with pytest.raises(PreparationFailed) as caught:
        registry.get_or_prepare(id, prepare)
    assert caught.value.artifact is not None
    return caught.value.artifact


def test_of_32_threads_one_prepares_and_all_get_it(registry: Registry, id: ArtifactId) -> None:
    runs: list[int] = []

    def prepare() -> bytes:
        runs.append(threading.get_ident())
        waiting.await_(31)
        return b"compiled"

    with waiters() as waiting, crew(32) as pool:
        asked = [pool.submit(registry.get_or_prepare, id, prepare) for _ in range(32)]
        answers = {one.result(PATIENCE).path for one in asked}
    assert len(runs) == 1
    assert len(answers) == 1


def test_of_many_handles_one_prepares_and_all_get_it(cache: Path, id: ArtifactId) -> None:
    handles = [Registry(cache) for _ in range(8)]
    runs: list[int] = []

    def prepare() -> bytes:
        runs.append(threading.get_ident())
        waiting.await_(7)
        return b"compiled"

    with waiters() as waiting, crew(8) as pool:
        asked = [pool.submit(handle.get_or_prepare, id, prepare) for handle in handles]
        assert len({one.result(PATIENCE).path for one in asked}) == 1
    assert len(runs) == 1
    for handle in handles:
        handle.close()


def test_a_failure_is_that_of_all_who_waited(registry: Registry, id: ArtifactId) -> None:
    registry.configure(retry_cooldown=NEVER)  # none of them may take that as leave to try again
    runs: list[int] = []

    def prepare() -> bytes:
        runs.append(threading.get_ident())
        waiting.await_(7)
        raise ValueError("odd code")

    with waiters() as waiting, crew(8) as pool:
        asked = [pool.submit(failure_of, registry, id, prepare) for _ in range(8)]
        told = [one.result(PATIENCE) for one in asked]
    assert len(runs) == 1
    assert [(artifact.error, artifact.num_failures) for artifact in told] == [("odd code", 1)] * 8


def test_when_the_one_who_prepares_is_interrupted_another_goes_on(
    registry: Registry, id: ArtifactId
) -> None:
    def interrupted() -> bytes:
        waiting.await_(1)
        raise Interruption

    begun = threading.Event()

    def prepare() -> bytes:
        begun.set()
        return interrupted()

    def first() -> None:
        with pytest.raises(Interruption):
            registry.get_or_prepare(id, prepare)

    with waiters() as waiting, crew(2) as pool:
        stopped = pool.submit(first)
        assert begun.wait(PATIENCE)
        went_on = pool.submit(registry.get_or_prepare, id, compiled)
        stopped.result(PATIENCE)
        assert went_on.result(PATIENCE).state is State.PREPARED


def test_waiting_for_another_ends_with_the_time_out(
    registry: Registry, other: Registry, id: ArtifactId
) -> None:
    claim = claimed(registry, id)
    with pytest.raises(WaitTimeout, match=id.short):
        other.get_or_prepare(id, must_not_run, timeout=timedelta(milliseconds=20))
    with pytest.raises(TimeoutError):
        other.get_or_prepare(id, must_not_run, timeout=NEVER)
    claim.publish(b"compiled")


def test_the_time_out_bounds_no_preparation_of_ones_own(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    assert registry.get_or_prepare(id, compiled, timeout=NEVER).state is State.PREPARED
    assert row(cache, id) is not None
