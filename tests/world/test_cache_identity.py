"""A cache that is moved, copied, linked or replaced while it is open: told, and nothing touched."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.command import Command

from registry import (
    Artifact,
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    CleanupConfig,
    Registry,
    RegistryError,
)
from registry.opening.cache import downgrade_cache

NOW = timedelta(0)
KNOWN, NEW, CLAIMED, HEADS_UP = (ArtifactId.of(b"%d" % n) for n in range(4))


def fill(cache: Path) -> None:
    with Registry(cache) as registry:
        for each in (KNOWN, HEADS_UP):
            registry.get_or_prepare(each, lambda: b"of the other")


def away(cache: Path) -> Path:
    return cache.with_name("away")


def moved(cache: Path) -> None:
    cache.rename(away(cache))


def another_in_its_place(cache: Path) -> None:
    moved(cache)
    fill(cache)


def a_copy_in_its_place(cache: Path) -> None:
    moved(cache)
    shutil.copytree(away(cache), cache, copy_function=shutil.copy2)


def a_link_in_its_place(cache: Path) -> None:
    moved(cache)
    cache.symlink_to(away(cache))


def removed_and_another_in_its_place(cache: Path) -> None:
    shutil.rmtree(cache)
    fill(cache)


def another_database(cache: Path) -> None:
    other = cache.with_name("other")
    fill(other)
    for part in ("registry.db-wal", "registry.db-shm"):
        (cache / part).unlink()
    os.replace(other / "registry.db", cache / "registry.db")


def a_linked_database(cache: Path) -> None:
    moved(cache)
    fill(cache)
    (cache / "registry.db").unlink()
    (cache / "registry.db").symlink_to(away(cache) / "registry.db")


def a_hard_linked_copy(cache: Path) -> None:
    shutil.copytree(cache, away(cache), copy_function=os.link)


def its_database_removed(cache: Path) -> None:
    (cache / "registry.db").unlink()


def other_artifacts(cache: Path) -> None:
    (cache / "artifacts").rename(cache.with_name("artifacts"))
    (cache / "artifacts").mkdir(0o700)


happened = pytest.mark.parametrize(
    "happen",
    [
        moved,
        another_in_its_place,
        a_copy_in_its_place,
        a_link_in_its_place,
        removed_and_another_in_its_place,
        another_database,
        a_linked_database,
        a_hard_linked_copy,
        its_database_removed,
        other_artifacts,
    ],
)

VERBS: dict[str, Callable[[Any], Any]] = {
    "a hot hit": lambda r: r.need(KNOWN),
    "a hot hit that would prepare": lambda r: r.get_or_prepare(KNOWN, lambda: b"x"),
    "get": lambda r: r.get(NEW),
    "need": lambda r: r.need(NEW),
    "wait": lambda r: r.wait(NEW),
    "claim": lambda r: r.claim(NEW),
    "get_or_prepare": lambda r: r.get_or_prepare(NEW, lambda: b"x"),
    "open_file": lambda r: r.open_file(KNOWN),
    "remove": lambda r: r.remove(KNOWN),
    "retry": lambda r: r.retry(KNOWN),
    "prune": lambda r: r.prune(cache_limit=0, min_stale_time=NOW),
    "stats": lambda r: r.stats(),
    "check": lambda r: r.check(),
    "repair": lambda r: r.check(repair=True),
    "maintain": lambda r: r.maintain(),
    "hosts": lambda r: r.hosts(),
}


def tree(*folders: Path) -> dict[str, bytes]:
    """All files there are; but not SQLite's, which reads by writing."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        if folder.exists()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("registry.db")
    }


def rows(database: Path) -> list[tuple[Any, ...]]:
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return [
            tuple(connection.execute(f"SELECT * FROM {table}").fetchall())
            for table in ("artifact", "maintenance")
        ]


def of_others(cache: Path) -> list[Any]:
    """What is at the path now, and where it was moved to."""
    return [tree(cache, away(cache)), rows(cache / "registry.db")]


def without_locks(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not path.endswith(".lock")}


def open_one(cache: Path) -> Registry:
    registry = Registry(cache, cleanup=CleanupConfig(cache_limit=0, min_stale_time=NOW))
    registry.get_or_prepare(KNOWN, lambda: b"known")
    return registry


@happened
@pytest.mark.parametrize("forked", [False, True], ids=["", "after a fork"])
def test_each_verb_tells_it_and_touches_nothing(
    cache: Path, happen: Callable[[Path], None], forked: bool
) -> None:
    registry = open_one(cache)
    claim = registry.claim(CLAIMED)
    assert not isinstance(claim, Artifact)
    happen(cache)
    if forked:  # all connections are closed before, and opened again after
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    before = of_others(cache)
    for name, verb in VERBS.items():
        answer: Any = None
        with pytest.raises(CacheDirectoryRefused, match=r"open|names") as told:
            answer = verb(registry)
        assert (name, answer) == (name, None)
        assert str(cache) in str(told.value)
    with pytest.raises(CacheDirectoryRefused):
        claim.publish(b"too late")
    with pytest.raises(CacheDirectoryRefused):
        registry.get_or_prepare(ArtifactId.of(b"more"), lambda: b"more")
    assert of_others(cache) == before
    registry.close()
    files, database = of_others(cache)
    assert (without_locks(files), database) == (without_locks(before[0]), before[1])


@happened
def test_in_a_loop_each_verb_does_so_too(cache: Path, happen: Callable[[Path], None]) -> None:
    async def play() -> None:
        registry = AsyncRegistry(cache, cleanup=CleanupConfig(cache_limit=0, min_stale_time=NOW))
        await registry.open()
        await registry.get_or_prepare(KNOWN, lambda: b"known")
        claim = await registry.claim(CLAIMED)
        assert not isinstance(claim, Artifact)
        happen(cache)
        before = of_others(cache)
        for name, verb in VERBS.items():
            answer: Any = None
            with pytest.raises(CacheDirectoryRefused, match=r"open|names"):
                answer = await verb(registry)
            assert (name, answer) == (name, None)
        with pytest.raises(CacheDirectoryRefused):
            await claim.publish(b"too late")
        await registry.close()
        files, database = of_others(cache)
        assert (without_locks(files), database) == (without_locks(before[0]), before[1])

    asyncio.run(play())


@happened
def test_what_is_prepared_meanwhile_is_published_nowhere(
    cache: Path, happen: Callable[[Path], None]
) -> None:
    registry = open_one(cache)
    kept: list[Any] = []

    def prepare() -> bytes:
        happen(cache)
        kept.append(of_others(cache))
        return b"made meanwhile"

    with pytest.raises(CacheDirectoryRefused):
        registry.get_or_prepare(NEW, prepare)
    files, database = of_others(cache)
    garbage = {path for path in files if path.endswith(".tmp")}
    assert {path: data for path, data in files.items() if path not in garbage} == kept[0][0]
    assert database == kept[0][1]
    registry.close()


def test_one_that_was_moved_back_works_on(cache: Path) -> None:
    with open_one(cache) as registry:
        moved(cache)
        with pytest.raises(CacheDirectoryRefused, match="put it back"):
            registry.need(KNOWN)
        away(cache).rename(cache)
        assert registry.need(KNOWN) is not None
        assert registry.get_or_prepare(NEW, lambda: b"new").size == 3
        assert registry.check().ok


def test_closing_one_that_was_moved_is_logged(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = open_one(cache)
    moved(cache)
    with caplog.at_level(logging.WARNING, "registry"):
        registry.close()
    assert caplog.records[-1].event == "replaced"
    with Registry(away(cache)) as again:
        assert again.need(KNOWN) is not None
        assert again.check().ok


def test_a_database_that_says_it_is_another_is_told_at_the_next_connection(cache: Path) -> None:
    """The same file, written over with another cache's: only its uuid tells."""
    registry = open_one(cache)
    with closing(sqlite3.connect(cache / "registry.db")) as database, database:
        database.execute("UPDATE cache SET uuid = 'another'")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(CacheDirectoryRefused, match="says that it is cache another now"):
        registry.claim(NEW)
    registry.close()


# --- hard links ---------------------------------------------------------------------------------


@pytest.fixture(params=["the first", "the copy"])
def linked(request: pytest.FixtureRequest, cache: Path) -> Iterator[Path]:
    fill(cache)
    a_hard_linked_copy(cache)
    yield cache if request.param == "the first" else away(cache)
    for each in (cache, away(cache)):
        with closing(sqlite3.connect(each / "registry.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_hard_linked_database_is_not_opened(linked: Path) -> None:
    async def opened() -> None:
        async with AsyncRegistry(linked):
            pass

    for attempt in (
        lambda: Registry(linked),
        lambda: asyncio.run(opened()),
        lambda: downgrade_cache(linked, "0003"),
    ):
        with pytest.raises(CacheDirectoryRefused, match="has 2 names"):
            attempt()


@pytest.mark.parametrize(
    "words", [["check", "--repair"], ["ls"], ["db", "backup", "FILE"], ["db", "downgrade", "0003"]]
)
def test_nor_by_the_command(linked: Path, words: list[str], tmp_path: Path) -> None:
    file = str(tmp_path / "backup.db")
    words = [file if word == "FILE" else word for word in words]
    ran = Command(tmp_path)("--cache", linked, *words)
    assert ran.code == 3
    assert "has 2 names" in ran.err


def test_once_the_other_name_is_gone_it_works_again(cache: Path) -> None:
    fill(cache)
    a_hard_linked_copy(cache)
    with pytest.raises(RegistryError):
        Registry(cache)
    shutil.rmtree(away(cache))
    with Registry(cache) as registry:
        assert registry.need(KNOWN) is not None
        assert registry.check().ok
