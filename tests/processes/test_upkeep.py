"""Maintenance among many hosts, and databases that are not what they should be."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support.pages import PAGE, root_of, write_over

from processes.crew import Crew, Line
from processes.traces import claimed, code_id, connected, query
from registry import AsyncRegistry, DatabaseDamaged, Registry

HOUR = 3600 * 10**6
ORPHAN = "0" * 128 + ".pvf"


def let_an_hour_pass(cache: Path) -> None:
    with connected(cache) as database:
        database.execute("UPDATE maintenance SET last_done = last_done - ?", (HOUR,))


def plant_garbage(cache: Path) -> Path:
    """A file named like ours that no row refers to."""
    path = cache / "artifacts" / ORPHAN
    path.write_bytes(b"garbage")
    return path


def maintains(line: Line, cache: Path) -> bool:
    with Registry(cache) as registry:
        line.ask("ready")
        done = registry.maintain()
        line.ask(done)
    return done


def test_of_many_hosts_one_does_the_hourly_maintenance(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        children = [crew.start(maintains, cache) for _ in range(6)]
        for child in children:
            child.expect("ready")
        garbage = plant_garbage(cache)
        assert not registry.maintain(), "it is not due yet"
        assert garbage.exists()

        let_an_hour_pass(cache)
        for child in children:
            child.tell()

        assert sorted(child.hear() for child in children) == [False] * 5 + [True]
        assert not garbage.exists()
        for child in children:
            child.tell()
            child.hear()


def opens_and_dies(line: Line, cache: Path) -> None:
    with Registry(cache) as registry:
        line.ask(registry.stats().prepared_count)


def test_opening_never_maintains_but_publishing_and_closing_do(cache: Path, crew: Crew) -> None:
    Registry(cache).close()
    garbage = plant_garbage(cache)
    let_an_hour_pass(cache)
    before = query(cache, "SELECT last_done FROM maintenance")

    opener = crew.start(opens_and_dies, cache)
    opener.expect(0)
    opener.kill()
    assert garbage.exists()
    assert query(cache, "SELECT last_done FROM maintenance") == before

    with Registry(cache) as registry:
        assert garbage.exists()
        claimed(registry, code_id("x")).publish(b"x")
        assert not garbage.exists()
        plant_garbage(cache)
        let_an_hour_pass(cache)
    assert not garbage.exists()


def test_a_replaced_database_sweeps_nothing(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    Registry(cache).close()
    mine = (cache / "cache.id").read_bytes()
    garbage = plant_garbage(cache)
    (cache / "cache.id").write_text("another cache's\n")
    let_an_hour_pass(cache)

    with Registry(cache) as registry:
        assert [record.event for record in caplog.records] == ["replaced"]  # opening only warns
        caplog.clear()
        assert registry.maintain()
        assert garbage.exists()
        assert "the database was replaced" in caplog.text
        assert {problem.kind for problem in registry.check().problems} == {
            "identity",
            "orphan_file",
        }
        with pytest.raises(DatabaseDamaged, match="was replaced"):
            registry.check(repair=True)
        assert garbage.exists()
        (cache / "cache.id").write_bytes(mine)
        registry.check(repair=True)
        assert not garbage.exists()


def with_random_bytes(database: Path) -> None:
    database.write_bytes(os.urandom(database.stat().st_size))


def truncated(database: Path) -> None:
    os.truncate(database, 100)


def emptied(database: Path) -> None:
    os.truncate(database, 0)


def missing(database: Path) -> None:
    database.unlink()


def with_a_bad_page(database: Path) -> None:
    """Damage what is not looked at before a handle enters: the page of the table of hosts."""
    write_over(database, root_of(database, "host"), os.urandom(PAGE))


damages = pytest.mark.parametrize(
    "damage", [with_random_bytes, truncated, emptied, missing, with_a_bad_page]
)


async def open_in_a_loop(cache: Path) -> None:
    async with AsyncRegistry(cache):
        pass


def opens_and_prepares(line: Line, cache: Path) -> bool:
    line.ask("ready")
    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("x"), lambda: b"again")
        return registry.check().ok or registry.check().problems


@damages
def test_many_who_open_a_damaged_database_set_it_aside_once(
    cache: Path, crew: Crew, damage: object
) -> None:
    with Registry(cache) as registry:
        old = registry.get_or_prepare(code_id("x"), lambda: b"first")
    uuid = (cache / "cache.id").read_text()
    children = [crew.start(opens_and_prepares, cache) for _ in range(5)]
    for child in children:
        child.expect("ready")
    damage(cache / "registry.db")

    for child in children:
        child.tell()

    heard = [child.hear() for child in children]
    # The old artifact's file is garbage now, until the next maintenance.
    assert {p.subject for problems in heard for p in problems} == {old.path.name}
    assert len(os.listdir(cache / "damaged")) == 1
    assert (cache / "cache.id").read_text() not in ("", uuid)
    assert query(cache, "SELECT uuid FROM cache") == [((cache / "cache.id").read_text().strip(),)]


def stays(line: Line, cache: Path) -> None:
    registry = Registry(cache)
    line.ask("open")
    line.ask(repr(registry))


@damages
def test_a_damaged_database_is_not_set_aside_while_a_host_lives(
    cache: Path, crew: Crew, damage: object
) -> None:
    Registry(cache).close()
    host = crew.start(stays, cache)
    host.expect("open")
    damage(cache / "registry.db")
    for log in ("registry.db-wal", "registry.db-shm"):
        (cache / log).unlink(missing_ok=True)

    with pytest.raises(DatabaseDamaged, match=r"1 other host\(s\) still have it open"):
        Registry(cache)
    with pytest.raises(DatabaseDamaged, match=r"1 other host\(s\) still have it open"):
        asyncio.run(open_in_a_loop(cache))
    assert not (cache / "damaged").exists()

    host.kill()
    with Registry(cache) as registry:
        assert registry.stats().prepared_count == 0
    assert len(os.listdir(cache / "damaged")) == 1
