"""An error from a commit means "unknown": each verb recognises what it did itself.

After an I/O error the statement may have been carried out or not; the verb runs it again and looks.
Either way its answer, and what it leaves, are those of a verb that met no error.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.between import Perform, between, name_of
from support.making import claimed, failed, prepared
from support.paths import path_of, spoil
from support.tables import DEAD, change, files, row, rows
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import (
    Artifact,
    ArtifactId,
    CacheDirectoryRefused,
    Claim,
    ClaimLost,
    DatabaseDamaged,
    Registry,
    State,
)
from registry.effects import Effect, Run, Unsure

NOW = timedelta(0)
SOON = timedelta(seconds=30)


@contextmanager
def unsure(registry: Registry, statement: str, *, done: bool, times: int = 1) -> Iterator[None]:
    """Report an I/O error for a statement, so many times, whether it was carried out or not."""
    left = times

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        nonlocal left
        if name_of(effect) != statement or left == 0:
            return perform(effect)
        left -= 1
        if done:
            perform(effect)
        raise Unsure("disk I/O error")

    with between(registry, act):
        yield
    assert left == 0, "it was never asked for"


pytestmark = pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])


def test_a_claim_is_ours(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    with unsure(registry, "claim", done=done):
        claim = registry.claim(id)
    assert isinstance(claim, Claim)
    assert len(rows(cache)) == 1
    assert claim.publish(b"artifact").state is State.PREPARED


def test_a_claim_after_a_failure_is_ours(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    failed(registry, id)
    registry.retry(id)
    before = row(cache, id)
    with unsure(registry, "claim", done=done):
        claim = claimed(registry, id)
    claim.release()
    assert row(cache, id) == before


def test_a_claim_that_was_taken_over_is_ours(
    registry: Registry, other: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    late = claimed(other, id)
    change(cache, id, host_id=DEAD)
    with unsure(registry, "take over", done=done):
        claim = claimed(registry, id)
    assert claim.artifact.num_failures == 1
    assert claim.artifact.error_kind == "host_died"
    with pytest.raises(ClaimLost):
        late.publish(b"late")
    assert claim.publish(b"artifact").state is State.PREPARED
    assert len(files(cache)) == 1


def test_a_publish_is_ours(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    claim = claimed(registry, id)
    with unsure(registry, "publish", done=done):
        artifact = claim.publish(b"artifact")
    assert artifact.state is State.PREPARED
    assert path_of(artifact).read_bytes() == b"artifact"
    assert registry.get(id) == artifact
    assert registry.check(checksums=True).ok


def test_a_failure_is_ours_and_counted_once(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    claim = claimed(registry, id)
    with unsure(registry, "fail", done=done):
        artifact = claim.fail("it went wrong")
    assert (artifact.state, artifact.num_failures) == (State.FAILED, 1)
    assert registry.get(id) == artifact


def test_a_release_is_ours(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    claim = claimed(registry, id)
    with unsure(registry, "release", done=done):
        claim.release()
    assert (rows(cache), files(cache)) == ([], {})
    with pytest.raises(ClaimLost, match="ended"):
        claim.release()


def test_a_release_to_an_earlier_failure_is_ours(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    failed(registry, id)
    registry.retry(id)
    before = row(cache, id)
    claim = claimed(registry, id)
    with unsure(registry, "restore", done=done):
        claim.release()
    assert row(cache, id) == before


def test_an_extension_is_ours(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    claim = claimed(
        registry,
        id,
    )
    with unsure(registry, "extend", done=done):
        claim.extend(timedelta(hours=5))
    found = row(cache, id)
    assert found is not None
    assert found["deadline"] - found["claimed_at"] > 4 * 3600 * 10**6


def test_a_removal_is_ours(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    prepared(registry, id)
    with unsure(registry, "remove", done=done):
        assert registry.remove(id)
    assert rows(cache) == []
    registry.check(repair=True)
    assert files(cache) == {}
    assert not registry.remove(id)


def test_a_retry_by_hand_is_ours(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    failed(registry, id)
    with unsure(registry, "retry", done=done):
        assert registry.retry(id)
    assert isinstance(registry.claim(id), Claim)


def test_a_need_is_a_hit(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    prepared(registry, id)
    with unsure(registry, "need", done=done):
        assert registry.need(id) is not None


def test_a_damaged_file_is_a_miss(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    spoil(path_of(prepared(registry, id)), b"?")
    with unsure(registry, "discard", done=done):
        assert registry.need(id) is None
    assert rows(cache) == []
    registry.check(repair=True)
    assert files(cache) == {}


def test_a_prune_deletes_no_more_and_leaves_nothing_but_garbage(
    registry: Registry, new_id: Callable[[], ArtifactId], cache: Path, done: bool
) -> None:
    for _ in range(4):
        prepared(registry, new_id())
    with unsure(registry, "prune", done=done):
        registry.prune(cache_limit=2048, min_stale_time=NOW)
    assert len(rows(cache)) == 2
    assert {p.kind for p in registry.check(checksums=True).problems} <= {"orphan_file"}
    registry.check(repair=True)
    assert registry.check().ok


def test_what_met_an_error_is_let_go_of(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    """A claim that was dropped is given back by the next verb, garbage collected or not."""
    gc.disable()
    try:
        with unsure(registry, "claim", done=done):
            registry.claim(id)
        registry.retry(id)
    finally:
        gc.enable()
    assert rows(cache) == []


def test_preparing_runs_once(registry: Registry, id: ArtifactId, cache: Path, done: bool) -> None:
    for statement in ("claim", "publish"):
        calls: list[str] = []

        def prepare(calls: list[str] = calls) -> bytes:
            calls.append("prepare")
            return b"artifact"

        with unsure(registry, statement, done=done):
            artifact = registry.get_or_prepare(id, prepare, timeout=SOON)
        assert calls == ["prepare"]
        assert path_of(artifact).read_bytes() == b"artifact"
        assert registry.remove(id)


def test_no_file_is_unlinked_because_of_an_error(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    """A publish that never learns what became of it leaves the file to whoever can tell."""
    claim = claimed(registry, id)
    with unsure(registry, "publish", done=done, times=3), pytest.raises(DatabaseDamaged):
        claim.publish(b"artifact")
    found = row(cache, id)
    assert found is not None
    assert (cache / "artifacts" / found["path"]).read_bytes() == b"artifact"
    if done:
        assert registry.need(id) is not None
        assert isinstance(registry.claim(id), Artifact)
    else:
        assert claim.publish(b"artifact").state is State.PREPARED


def test_what_is_read_is_read_again(
    registry: Registry, id: ArtifactId, cache: Path, done: bool
) -> None:
    artifact = prepared(registry, id)
    with unsure(registry, "read", done=done, times=2):
        assert registry.get(id) == artifact


def test_a_handle_that_closes_gives_its_claim_back(
    registry: Registry, cache: Path, id: ArtifactId, done: bool
) -> None:
    with Registry(cache) as closing, unsure(closing, "release", done=done):
        claim = claimed(closing, id)
        closing.close()
    assert claim.id == id
    assert (rows(cache), files(cache)) == ([], {})


def test_only_statements_are_unsure(registry: Registry, id: ArtifactId, done: bool) -> None:
    """What the disk says of a file is final, and is told to the caller."""

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        if isinstance(effect, Run) or name_of(effect) != "Sync":
            return perform(effect)
        if done:
            perform(effect)
        raise OSError(5, "Input/output error")

    with between(registry, act), pytest.raises(CacheDirectoryRefused, match="Input/output"):
        registry.get_or_prepare(id, lambda: b"artifact")
    assert registry.get(id) is None
    assert registry.check().ok
