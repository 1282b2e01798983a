"""`usage` is what the prepared sum up to, whatever happened: the triggers keep it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.making import claimed, failed, prepared
from support.tables import connected, die, row, usage

from registry import Artifact, ArtifactId, Claim, Registry

IDS = [ArtifactId.of(b"code %d" % number) for number in range(4)]
NOTHING = timedelta(0)


def publish(registry: Registry, id: ArtifactId, size: int) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.publish(b"x" * size)


def fail(registry: Registry, id: ArtifactId, size: int) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        claim.fail("it went wrong")


def die_preparing(registry: Registry, id: ArtifactId, size: int) -> None:
    claim = registry.claim(id)
    if isinstance(claim, Claim):
        die(registry.cache_dir, id)
        registry.wait(id)


def damage(registry: Registry, id: ArtifactId, size: int) -> None:
    artifact = registry.get(id)
    if artifact is not None and artifact.path is not None:
        artifact.path.chmod(0o600)
        artifact.path.write_bytes(b"y" * size)
    registry.need(id)


OPERATIONS: list[Callable[[Registry, ArtifactId, int], object]] = [
    publish,
    fail,
    die_preparing,
    damage,
    lambda registry, id_, size: registry.claim(id_),  # and dropped: released by the next verb
    lambda registry, id_, size: registry.need(id_),
    lambda registry, id_, size: registry.remove(id_),
    lambda registry, id_, size: registry.retry(id_),
    lambda registry, id_, size: registry.prune(cache_limit=size, min_stale_time=NOTHING),
    lambda registry, id_, size: registry.configure(cache_limit=size, hard_limit=4 * size),
]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(IDS), st.integers(1, 100)),
        max_size=30,
    )
)
def test_usage_is_exact_after_any_operations(
    steps: list[tuple[Callable[[Registry, ArtifactId, int], object], ArtifactId, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, Registry(Path(folder) / "cache") as registry:
        for operation, id_, size in steps:
            operation(registry, id_, size)
            kept, summed = usage(registry.cache_dir)
            assert kept == summed
            stats = registry.stats()
            assert (stats.prepared_count, stats.prepared_bytes) == summed


def test_usage_that_was_tampered_with_is_found_and_mended(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id, 100)
    with connected(cache) as connection:
        connection.execute("UPDATE usage SET prepared_count = 7, prepared_bytes = 7")
    assert [problem.kind for problem in registry.check().problems] == ["usage"]
    assert usage(cache) == ((7, 7), (1, 100))
    registry.check(repair=True)
    assert usage(cache) == ((1, 100), (1, 100))
    assert registry.check().ok


def test_stats_count_the_rows_by_state(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    claims = [claimed(registry, new_id()), claimed(registry, new_id())]
    for size in (10, 20, 30):
        prepared(registry, new_id(), size)
    failed(registry, new_id())
    stats = registry.stats()
    assert (stats.prepared_count, stats.prepared_bytes) == (3, 60)
    assert (stats.preparing_count, stats.failed_count) == (2, 1)
    assert stats.cache_limit == 10 * 1024**3
    assert not stats.over_limit
    assert all(isinstance(row(cache, claim.id), dict) for claim in claims)
    assert isinstance(registry.get(claims[0].id), Artifact)
