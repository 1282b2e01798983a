"""Threads share a handle, and one of them closes it."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from support.making import claimed
from support.tables import connected, rows
from support.threads import PATIENCE, crew

from registry import ArtifactId, AsyncRegistry, HandleClosed, Registry
from registry.effects import Params
from registry.sql.queries import NOTE_USE
from registry.sql.statement import Statement
from registry.world.database import Database

HOUR = timedelta(hours=1)


def descriptors(cache: Path) -> list[str]:
    """Which files of a cache this process has open."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    paths = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [path for path in paths if path.startswith(str(cache))]


@pytest.mark.parametrize("_", range(5))
def test_closing_in_several_threads_closes_once(_: int, cache: Path) -> None:
    registry = Registry(cache)
    together = threading.Barrier(4)

    def close() -> None:
        together.wait(PATIENCE)
        registry.close()

    with crew(3) as threads, connected(cache) as rival:
        rival.execute("BEGIN IMMEDIATE")  # so that the first is still at it when the last begins
        closing = [threads.submit(close) for _ in range(3)]
        together.wait(PATIENCE)
        rival.execute("ROLLBACK")
        for one in closing:
            one.result(PATIENCE)
    assert descriptors(cache) == []


def test_a_verb_under_which_its_handle_is_closed_says_so(
    cache: Path, id: ArtifactId, other: Registry
) -> None:
    registry = Registry(cache)
    begun, may_end = threading.Event(), threading.Event()

    def prepare() -> bytes:
        begun.set()
        assert may_end.wait(PATIENCE)
        return b"too late"

    with crew(1) as threads:
        preparing = threads.submit(registry.get_or_prepare, id, prepare)
        assert begun.wait(PATIENCE)
        registry.close()
        assert other.get(id) is None, "its claim was given back"
        may_end.set()
        assert isinstance(preparing.exception(PATIENCE), HandleClosed)
    assert other.get(id) is None


def test_closing_under_busy_threads_leaves_no_claim_and_no_failure(
    cache: Path, new_id: Callable[[], ArtifactId], other: Registry
) -> None:
    def work(registry: Registry, ids: list[ArtifactId], together: threading.Barrier) -> None:
        together.wait(PATIENCE)
        for one in ids:
            with registry.claim(one) as claim:
                claim.extend(HOUR)

    for _ in range(20):
        registry, together = Registry(cache), threading.Barrier(4)
        held = claimed(registry, new_id())
        with crew(3) as threads:
            working = [
                threads.submit(work, registry, [new_id() for _ in range(20)], together)
                for _ in range(3)
            ]
            together.wait(PATIENCE)
            registry.close()
            for one in working:
                error = one.exception(PATIENCE)
                assert error is None or isinstance(error, HandleClosed), repr(error)
        assert other.get(held.id) is None
    assert rows(cache) == []


@pytest.mark.parametrize("kind", [Registry, AsyncRegistry])
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_handle_is_neither_copied_nor_pickled(
    how: Callable[[object], object], kind: type[Registry | AsyncRegistry], cache: Path
) -> None:
    """The copy would close the descriptors of the handle that it was copied from."""
    handle = kind(cache)
    with pytest.raises(TypeError, match="neither copied nor pickled; open one"):
        how(handle)


def test_a_handle_that_was_not_copied_goes_on(registry: Registry) -> None:
    with pytest.raises(TypeError):
        copy.copy(registry)
    gc.collect()
    assert registry.check().ok


def test_a_closing_that_is_cut_short_over_a_late_use_has_given_its_claims_back(
    cache: Path,
    id: ArtifactId,
    new_id: Callable[[], ArtifactId],
    other: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the claim would count as that of a host that died, and so as a failure."""
    registry = Registry(cache)
    late = registry.get_or_prepare(new_id(), lambda: b"data")
    claim = claimed(registry, id)
    registry._handle.late_uses[late.id] = str(late.path), 0
    run = Database.run

    def interrupted(database: Database, statement: Statement, params: Params) -> object:
        if statement is NOTE_USE:
            raise KeyboardInterrupt
        return run(database, statement, params)

    monkeypatch.setattr(Database, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        registry.close()
    assert other.get(id) is None
    del claim
