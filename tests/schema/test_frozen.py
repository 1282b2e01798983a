"""Databases that earlier versions wrote are opened, upgraded, used; they are never regenerated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.frozen import FROZEN, PREPARED, SPEED, thawed

from registry import ArtifactId, PreparationFailed, Registry, SchemaTooOld, State
from registry.opening import migrate


@pytest.fixture(params=FROZEN)
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the cache that a revision left behind."""
    return thawed(request.param, tmp_path / "cache")


def test_what_was_prepared_is_found_again(frozen: Path) -> None:
    with Registry(frozen) as registry:
        for number, (code, data) in enumerate(PREPARED.items()):
            artifact = registry.need(ArtifactId.of(code, SPEED))
            assert artifact is not None
            assert artifact.label == f"module-{number}.wasm"
            with registry.open_file(artifact.id) as file:
                assert file.read() == data


def test_failures_are_remembered(frozen: Path) -> None:
    with Registry(frozen) as registry:
        deterministic = ArtifactId.of(b"failed 1")
        with pytest.raises(PreparationFailed, match="unknown import") as caught:
            registry.get_or_prepare(deterministic, lambda: b"never")
        assert caught.value.artifact is not None
        assert caught.value.artifact.retry_at is None
        passing = registry.get(ArtifactId.of(b"failed 0"))
        assert passing is not None
        assert passing.retry_at == datetime(2026, 11, 24, 12, 18, tzinfo=UTC)


def test_the_claim_of_the_host_that_was_killed_is_taken_over(frozen: Path) -> None:
    with Registry(frozen) as registry:
        artifact = registry.get_or_prepare(ArtifactId.of(b"preparing 0"), lambda: b"at last")
        assert artifact.state is State.PREPARED


def test_settings_and_usage_are_kept(frozen: Path) -> None:
    with Registry(frozen) as registry:
        assert registry.settings().cache_limit == 5 * 1024**3
        assert registry.settings().min_stale_time == timedelta(hours=12)
        stats = registry.stats()
        assert (stats.prepared_count, stats.prepared_bytes) == (3, 3300)


def test_it_is_in_order_after_the_upgrade(frozen: Path) -> None:
    with Registry(frozen) as registry:
        registry.check(repair=True)
        assert registry.check(checksums=True).problems == []


@pytest.mark.parametrize("revision", [revision for revision in FROZEN if revision < migrate.HEAD])
def test_it_is_left_as_it_is_where_upgrading_is_not_allowed(revision: str, tmp_path: Path) -> None:
    frozen = thawed(revision, tmp_path / "cache")
    before = (frozen / "registry.db").read_bytes()
    with pytest.raises(SchemaTooOld, match="registry db upgrade"):
        Registry(frozen, upgrade=False)
    assert (frozen / "registry.db").read_bytes() == before


@pytest.mark.parametrize(("revision", "hits"), [("0003", 0), ("0004", 3), ("0005", 3)])
def test_what_the_journal_and_the_counters_had_is_kept(
    revision: str, hits: int, tmp_path: Path
) -> None:
    """The frozen caches that have them: what was pruned and removed before is still told."""
    with Registry(thawed(revision, tmp_path / "cache")) as registry:
        for name in ("pruned", "removed"):
            events = registry.history(ArtifactId.of(f"{name} 0".encode()))
            assert [event.event for event in events] == ["claimed", "published", name]
            assert {event.command for event in events} == {"python prepare.py"}
        totals = registry.stats().totals
        assert (totals["published"], totals["failed"], totals["pruned"]) == (5, 2, 1)
        assert (totals["pruned_bytes"], totals["hits"]) == (500, hits)
        registry.get_or_prepare(ArtifactId.of(b"pruned 0"), lambda: b"again")
        assert registry.stats().totals["rebuilt"] == 1
