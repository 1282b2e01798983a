"""Put and read: what exists already is stored at once, and what is there wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.making import claimed, failed
from support.tables import files

from registry import (
    Artifact,
    ArtifactBusy,
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    InvalidData,
    Registry,
    State,
)


class Blocking:
    """An async handle whose verbs block, each in a loop of its own."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with AsyncRegistry(self.cache) as opened:
                return await getattr(opened, name)(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(call(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def store(request: pytest.FixtureRequest, registry: Registry, cache: Path) -> Any:
    """Either handle."""
    return registry if request.param == "sync" else Blocking(cache)


def test_what_was_put_is_read(store: Any, registry: Registry, id: ArtifactId) -> None:
    assert store.read(id) is None
    made = store.put(id, b"bytes", label="kernel")
    assert isinstance(made, Artifact)
    assert (made.state, made.size, made.label) == (State.PREPARED, 5, "kernel")
    assert store.read(id) == b"bytes"
    assert registry.check(checksums=True).ok


def test_what_is_prepared_wins(
    store: Any, registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    first = registry.put(id, b"first")
    second = tmp_path / "second"
    second.write_bytes(b"second")
    assert store.put(id, second).path == first.path
    assert second.exists()
    assert store.read(id) == b"first"
    assert registry.counters.prepared == 1


def test_a_file_is_moved_in(store: Any, id: ArtifactId, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.write_bytes(b"built")
    store.put(id, built)
    assert not built.exists()
    assert store.read(id) == b"built"


def test_a_claim_of_another_and_ones_own_are_busy(
    store: Any, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    for holder in (other, registry):
        claim = claimed(holder, id)
        with pytest.raises(ArtifactBusy, match=id.short):
            store.put(id, b"bytes")
        assert claim.publish(b"claimed").size == 7
        assert registry.remove(id)


def test_a_remembered_failure_is_replaced(store: Any, registry: Registry, id: ArtifactId) -> None:
    failed(registry, id, retryable=False)
    made = store.put(id, b"bytes")
    assert (made.state, made.error, made.num_failures) == (State.PREPARED, None, 0)


def test_a_damaged_file_is_no_answer_and_is_replaced(
    store: Any, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    made = other.put(id, b"bytes")
    assert made.path is not None
    made.path.chmod(0o600)
    made.path.write_bytes(b"bytez")
    assert store.read(id) is None
    store.put(id, b"bytes")
    assert store.read(id) == b"bytes"


@pytest.mark.parametrize(
    ("data", "error"), [(b"", InvalidData), ("text", TypeError), (None, TypeError)]
)
def test_what_is_no_artifact_is_refused_and_nothing_changes(
    store: Any, registry: Registry, id: ArtifactId, data: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.put(id, data)
    assert registry.get(id) is None
    assert registry.history(id) == []
    registry.put(id, b"bytes")
    with pytest.raises(error):
        store.put(id, data)
    assert registry.read(id) == b"bytes"


def test_a_path_to_no_file_is_refused_and_the_claim_given_back(
    store: Any, registry: Registry, cache: Path, id: ArtifactId, tmp_path: Path
) -> None:
    with pytest.raises(InvalidData):
        store.put(id, tmp_path)
    assert registry.get(id) is None
    assert files(cache) == {}


def test_an_error_of_the_disk_is_told_as_one_of_ours(
    registry: Registry, id: ArtifactId, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put(id, b"bytes")

    class Failing:
        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def read(self) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(registry, "open_file", lambda _: Failing())
    with pytest.raises(CacheDirectoryRefused):
        registry.read(id)


def test_empty_bytes_and_an_empty_file_are_refused_for_the_same_reason_by_every_verb(
    registry: Registry, id: ArtifactId, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for data in (b"", empty):
        with pytest.raises(InvalidData, match="at least one byte"):
            registry.put(id, data)
        with pytest.raises(InvalidData, match="at least one byte"):
            registry.get_or_prepare(id, lambda made=data: made)  # type: ignore[misc]
        with pytest.raises(InvalidData, match="at least one byte"), claimed(registry, id) as claim:
            claim.publish(data)
        assert registry.get(id) is None
