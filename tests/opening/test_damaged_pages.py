"""A damaged page that nothing looks at while a cache is opened: checked, set aside, recovered."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from support.command import Command
from support.pages import PAGE, root_of, write_over

from registry import ArtifactId, AsyncRegistry, DatabaseDamaged, Registry, State, Stats
from registry.world.hosts import Hosts, living_hosts

NUMBER = 20


def of(number: int) -> ArtifactId:
    return ArtifactId.of(b"%d" % number)


def fill(cache: Path) -> None:
    with Registry(cache) as registry:
        for number in range(NUMBER):
            registry.get_or_prepare(of(number), lambda data=b"%d" % number: data)


def damage(cache: Path, table: str) -> None:
    """Write over the first page of a table or an index."""
    path = cache / "registry.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    write_over(path, root_of(path, table), b"\xa5" * PAGE)


def assert_works(cache: Path) -> None:
    with Registry(cache) as registry:
        assert registry.get_or_prepare(of(1), lambda: b"again").state is State.PREPARED
        found = registry.check(checksums=True).problems
    assert {problem.kind for problem in found} <= {"orphan_file"}  # swept in an hour


def test_opening_sets_aside_a_database_whose_damage_it_meets(cache: Path) -> None:
    fill(cache)
    damage(cache, "host")
    assert_works(cache)
    assert len(list((cache / "damaged").iterdir())) == 1


def test_opening_in_a_loop_does_so_too(cache: Path) -> None:
    async def opened() -> Stats:
        async with AsyncRegistry(cache) as registry:
            return await registry.stats()

    fill(cache)
    damage(cache, "host")
    assert asyncio.run(opened()).prepared_count == 0
    assert len(list((cache / "damaged").iterdir())) == 1


def test_it_is_not_set_aside_while_another_host_lives(cache: Path) -> None:
    fill(cache)
    other = Registry(cache)
    damage(cache, "host")
    with pytest.raises(DatabaseDamaged, match="stop them"):
        Registry(cache)
    with pytest.raises(DatabaseDamaged):
        other.close()
    assert not (cache / "damaged").exists()


@pytest.mark.timeout(60)
def test_those_that_are_still_opening_it_are_waited_for(cache: Path) -> None:
    fill(cache)
    damage(cache, "host")
    folder = Hosts(cache / "hosts")
    opening = [folder.register() for _ in range(2)]
    assert living_hosts(cache / "hosts") == (0, 2)

    opened = Thread(target=assert_works, args=(cache,))
    opened.start()
    # Longer than the second that was all the patience they had once.
    opened.join(1.5)
    assert opened.is_alive()
    assert not (cache / "damaged").exists()
    for lock in opening:
        folder.leave(lock)
    opened.join()
    folder.close()
    assert len(list((cache / "damaged").iterdir())) == 1


def test_one_that_has_entered_counts_as_using_it(cache: Path) -> None:
    with Registry(cache):
        assert living_hosts(cache / "hosts") == (1, 0)


def test_a_database_that_is_whole_is_never_set_aside_for_what_its_rows_say(cache: Path) -> None:
    fill(cache)
    with closing(sqlite3.connect(cache / "registry.db")) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute("UPDATE artifact SET size = -1, state = 'unheard of' WHERE id = 1")
        database.execute("DROP TABLE host")
    with pytest.raises(DatabaseDamaged):
        Registry(cache)
    assert not (cache / "damaged").exists()


@pytest.mark.parametrize("table", ["artifact", "artifact_by_last_use", "usage", "history"])
def test_check_reports_it_and_its_repair_sets_it_aside(table: str, command: Command) -> None:
    fill(command.cache)
    damage(command.cache, table)
    found = command("check", "--json")
    assert found.code == 1
    kinds = [problem["kind"] for problem in found.document["problems"]]
    assert kinds.count("integrity") == 1
    assert not (command.cache / "damaged").exists()
    mended = command("check", "--repair", "--json")
    assert mended.code == 1
    assert mended.document["repaired"] is True
    assert command("db", "recover").code == 0
    assert_works(command.cache)


def test_an_index_that_is_not_its_tables_is_not_called_repaired(command: Command) -> None:
    """What SQLite finds without meeting a page that it cannot read."""
    fill(command.cache)
    with closing(sqlite3.connect(command.cache / "registry.db", isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        find = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = database.execute(find, ("artifact_by_last_use",)).fetchone()
        database.execute("CREATE INDEX other ON artifact (label)")
        (wrong,) = database.execute(find, ("other",)).fetchone()
        swap = "UPDATE sqlite_master SET rootpage = ? WHERE name = ?"
        database.execute(swap, (wrong, "artifact_by_last_use"))
        database.execute(swap, (page, "other"))
    with Registry(command.cache) as registry:
        report = registry.check(repair=True)
    assert "integrity" in {problem.kind for problem in report.problems}
    assert not report.repaired
    assert command("check", "--repair").code == 1
    assert command("db", "recover").code == 0
    with Registry(command.cache) as registry:
        assert registry.stats().prepared_count == NUMBER
        assert registry.check().ok


def test_what_stood_on_other_pages_comes_back(command: Command) -> None:
    fill(command.cache)
    damage(command.cache, "history")
    assert command("check", "--repair").code == 1
    assert command("db", "recover").code == 0
    with Registry(command.cache) as registry:
        assert registry.stats().prepared_count == NUMBER


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)
