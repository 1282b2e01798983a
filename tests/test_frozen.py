"""Databases that earlier versions wrote are opened, upgraded, used; they are never regenerated."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry import ArtifactId, PreparationFailed, Registry, SchemaTooOld, State, migrate

DATA = Path(__file__).parent / "data"
SPEED = {"opt_level": "speed"}


@pytest.fixture(params=sorted(path.stem for path in DATA.glob("*.db")))
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the cache that a revision left behind."""
    cache = tmp_path / "cache"
    cache.mkdir(0o700)
    shutil.copy(DATA / f"{request.param}.db", cache / "registry.db")
    shutil.copytree(DATA / f"{request.param}-artifacts", cache / "artifacts")
    if (DATA / f"{request.param}.id").exists():
        shutil.copy(DATA / f"{request.param}.id", cache / "cache.id")
    os.chmod(cache / "artifacts", 0o700)
    return cache


def test_what_was_prepared_is_found_again(frozen: Path) -> None:
    with Registry(frozen) as registry:
        for number in range(3):
            code = b"prepared %d" % number
            artifact = registry.need(ArtifactId.of(code, SPEED))
            assert artifact is not None
            assert artifact.label == f"module-{number}.wasm"
            with registry.open_file(artifact.id) as file:
                assert file.read() == b"artifact %d " % number * 100


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


def test_it_is_left_as_it_is_where_upgrading_is_not_allowed(frozen: Path) -> None:
    before = (frozen / "registry.db").read_bytes()
    if migrate.revision_of(str(frozen / "registry.db")) == migrate.HEAD:
        pytest.skip("this is the newest revision")
    with pytest.raises(SchemaTooOld, match="registry db upgrade"):
        Registry(frozen, upgrade=False)
    assert (frozen / "registry.db").read_bytes() == before
