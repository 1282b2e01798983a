"""A cache on a file system of layers, as in the image of a container: no artifact is copied up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounts import mounted
from support.tables import row

from registry import ArtifactId, AsyncRegistry, Registry
from registry.access_time import use_marked

IDS = [ArtifactId.of(b"%d" % number) for number in range(3)]


@pytest.fixture
def merged(tmp_path: Path) -> Iterator[Path]:
    """Three artifacts in the lower layer; what is written goes to the upper one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    with mounted(tmp_path / "layers", "size=64m,mode=700") as layers:
        for name in ("lower", "upper", "work"):
            (layers / name).mkdir(mode=0o700)
        with Registry(layers / "lower" / "cache") as registry:
            for named in IDS:
                registry.get_or_prepare(named, lambda: bytes(100_000))
        folders = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        with mounted(tmp_path / "merged", folders, "overlay") as point:
            yield point


def copied(merged: Path) -> list[str]:
    upper = merged.parent / "layers" / "upper"
    return [path.name for path in upper.rglob("*.pvf")]


def test_a_need_writes_to_the_row_and_copies_no_artifact(merged: Path) -> None:
    cache = merged / "cache"
    before = {named: row(cache, named)["last_time_needed"] for named in IDS}  # type: ignore[index]
    with Registry(cache) as registry:
        for named in IDS:
            assert registry.need(named) is not None
            assert registry.get_or_prepare(named, lambda: b"never") is not None
            with registry.open_file(named) as file:
                assert file.read() == bytes(100_000)
    assert copied(merged) == []
    for named in IDS:
        assert row(cache, named)["last_time_needed"] > before[named]  # type: ignore[index]
    with Registry(cache) as registry:
        assert registry.check(checksums=True).ok


async def _need_all(cache: Path) -> None:
    async with AsyncRegistry(cache) as registry:
        for named in IDS:
            assert await registry.need(named) is not None


def test_nor_does_an_async_one(merged: Path) -> None:
    asyncio.run(_need_all(merged / "cache"))
    assert copied(merged) == []


def test_what_is_made_there_is_kept_in_the_upper_layer(merged: Path) -> None:
    new = ArtifactId.of(b"new")
    with Registry(merged / "cache") as registry:
        made = registry.get_or_prepare(new, lambda: b"made")
        assert made.path is not None
        assert copied(merged) == [made.path.name]
        assert registry.need(new) is not None


def test_elsewhere_the_use_is_marked_on_the_file(registry: Registry) -> None:
    registry.get_or_prepare(IDS[0], lambda: b"made")
    with Registry(registry.cache_dir) as other:
        needed = other.need(IDS[0])
    assert needed is not None
    assert needed.path is not None
    assert use_marked(needed.path.stat()) is not None
