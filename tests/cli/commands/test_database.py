"""`db`: where the database is and which schema it has; and a cache that cannot be used."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.artifacts import prepared
from support.command import Command, Run

from registry import Registry
from registry.opening.migrate import HEAD, revisions
from registry.schema import APPLICATION_ID

OLDER = [revision.id for revision in revisions() if revision.id != HEAD]


def test_looking_at_the_database_does_not_make_one(command: Command, run: Run) -> None:
    assert run("db", "path").out == f"{command.cache / 'registry.db'}\n"
    assert run("db", "current", "--json").document == {"revision": None, "head": HEAD}
    assert not command.cache.exists()


def test_upgrading_makes_the_database_and_then_changes_nothing(run: Run) -> None:
    first = run("db", "upgrade", "--json")
    assert first.document == {"before": None, "revision": HEAD}
    again = run("db", "upgrade", "--json")
    assert again.document == {"before": HEAD, "revision": HEAD}
    assert run("db", "upgrade").out == f"{HEAD} already (the newest)\n"
    assert run("db", "current").out == f"{HEAD} (the newest)\n"


def test_the_path_is_for_the_sqlite3_shell(command: Command) -> None:
    command("db", "upgrade")
    with closing(sqlite3.connect(command("db", "path").out.rstrip("\n"))) as connection:
        assert connection.execute("SELECT count(*) FROM artifact").fetchone() == (0,)


def _write(database: Path, content: bytes) -> None:
    database.parent.mkdir(mode=0o700)
    database.write_bytes(content)
    database.chmod(0o600)


def _of_another_application(database: Path) -> None:
    _write(database, b"")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("PRAGMA application_id = 7; CREATE TABLE theirs (x);")


def _from_the_future(database: Path) -> None:
    _write(database, b"")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            f"PRAGMA application_id = {APPLICATION_ID};"
            "CREATE TABLE alembic_version (version_num TEXT);"
            "INSERT INTO alembic_version VALUES ('9999');"
        )


def _open_to_all(database: Path) -> None:
    database.parent.mkdir()
    database.parent.chmod(0o777)


def _a_file(database: Path) -> None:
    database.parent.write_text("not a directory")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_a_file, "CacheDirectoryRefused"),
        (_open_to_all, "CacheDirectoryRefused"),
        (_of_another_application, "NotARegistry"),
        (_from_the_future, "SchemaTooNew"),
    ],
)
def test_a_cache_that_cannot_be_used_has_an_exit_code_of_its_own(
    command: Command, run: Run, spoil: Callable[[Path], None], error: str
) -> None:
    spoil(command.cache / "registry.db")
    answer = run("ls", "--json")
    assert (answer.code, answer.out, answer.error["type"]) == (3, "", error)
    people = run("ls")
    assert people.code == 3
    assert people.err == f"error: {answer.error['message']}\n"


def test_a_database_that_is_none_is_no_revision(command: Command, run: Run) -> None:
    _write(command.cache / "registry.db", os.urandom(8192))
    answer = run("db", "current", "--json")
    assert (answer.code, answer.error["type"]) == (3, "DatabaseDamaged")


# --- the revisions ------------------------------------------------------------------------------


def test_the_revisions_are_listed_with_the_one_that_the_database_has(run: Run) -> None:
    before = run("db", "history", "--json").document
    assert {revision["state"] for revision in before} == {"not yet"}
    run("db", "upgrade")
    after = run("db", "history", "--json").document
    assert [revision["revision"] for revision in after] == sorted(
        revision["revision"] for revision in before
    )
    assert after[-1] | {"says": ""} == {"revision": HEAD, "state": "current", "says": ""}
    assert {revision["state"] for revision in after[:-1]} == {"applied"}
    assert all(revision["says"].endswith(".") for revision in after)


def test_a_revision_of_the_future_is_told(command: Command, run: Run) -> None:
    _from_the_future(command.cache / "registry.db")
    answer = run("db", "history")
    assert answer.err == "the database has revision 9999, from a newer version of registry\n"
    assert {line.split()[1] for line in answer.out.splitlines()[1:]} == {"applied"}
    assert run("db", "current").out == (
        f"9999 (from a newer version of registry; this version knows up to {HEAD})\n"
    )
    refused = run("db", "downgrade", "0001", "--json")
    assert (refused.code, refused.error["type"]) == (3, "SchemaTooNew")
    assert "of that one" in refused.error["message"]


def test_a_database_of_the_future_that_admits_this_version_is_served(
    command: Command, run: Run
) -> None:
    with Registry(command.cache) as registry:
        artifact = prepared(registry, "one")
    with closing(sqlite3.connect(command.cache / "registry.db")) as connection:
        connection.executescript("UPDATE alembic_version SET version_num = '9999'")
    assert run("db", "upgrade").out.startswith("9999 already (from a newer version of registry; ")
    (listed,) = run("ls", "--json").document
    assert listed["code_hash"] == artifact.id.code_hash
    assert run("doctor", "--json").code == 0


@pytest.mark.parametrize("revision", OLDER)
def test_a_downgraded_cache_keeps_its_artifacts_and_is_upgraded_by_use(
    command: Command, run: Run, revision: str
) -> None:
    with Registry(command.cache) as registry:
        artifact = prepared(registry, "one")
    answer = run("db", "downgrade", revision, "--json")
    assert answer.document == {"before": HEAD, "revision": revision}
    assert run("db", "current", "--json").document["revision"] == revision
    assert run("db", "current").out.startswith(f"{revision} (the newest is {HEAD}; ")
    with Registry(command.cache) as registry:
        assert registry.need(artifact.id) is not None
        assert registry.check(checksums=True).ok
    assert run("db", "current", "--json").document["revision"] == HEAD


def test_a_downgrade_is_refused_while_a_host_is_there(command: Command, run: Run) -> None:
    with Registry(command.cache):
        answer = run("db", "downgrade", "0002", "--json")
    assert (answer.code, answer.error["type"]) == (3, "RegistryBusy")
    assert "1 host(s)" in answer.error["message"]
    assert run("db", "current", "--json").document["revision"] == HEAD


@pytest.mark.parametrize("revision", [HEAD, "9999", "head", "-1"])
def test_only_an_older_revision_is_one_to_go_back_to(run: Run, revision: str) -> None:
    run("db", "upgrade")
    answer = run("db", "downgrade", "--json", "--", revision)
    assert (answer.code, answer.error["type"]) == (2, "InvalidSetting")
    assert f"than {HEAD}, which the database has; use one of: 0001, " in answer.error["message"]


def test_there_is_nothing_to_downgrade_or_back_up_where_there_is_no_database(
    command: Command, run: Run
) -> None:
    for arguments in (("downgrade", "0001"), ("backup", "copy.db")):
        answer = run("db", *arguments, "--json")
        assert (answer.code, answer.error["type"]) == (1, "FileNotFoundError")
    assert not command.cache.exists()
    assert not (command.home / "copy.db").exists()


# --- backups ------------------------------------------------------------------------------------


def test_a_backup_is_a_whole_database_that_only_its_owner_reads(
    command: Command, run: Run, registry: Registry
) -> None:
    artifact = prepared(registry, "one")  # in the -wal file still, with a host at work
    answer = run("db", "backup", "copy.db", "--json")
    copy = command.home / "copy.db"
    assert answer.document == {"path": "copy.db", "size": copy.stat().st_size}
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        ask = connection.execute
        assert ask("SELECT code_hash FROM artifact").fetchall() == [(artifact.id.code_hash,)]
        assert ask("PRAGMA integrity_check").fetchone() == ("ok",)
        assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ask("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert ask("PRAGMA user_version").fetchone() == (int(HEAD),)


def test_a_backup_takes_the_place_of_the_database(command: Command, run: Run) -> None:
    with Registry(command.cache) as registry:
        kept = prepared(registry, "kept")
        pruned = prepared(registry, "pruned")
        run("db", "backup", "copy.db")
        registry.remove(pruned.id)
        prepared(registry, "later")
    os.replace(command.home / "copy.db", command.cache / "registry.db")
    run("check", "--repair")
    with Registry(command.cache) as registry:
        assert [artifact.id for artifact in registry.artifacts()] == [kept.id]
        assert registry.check(checksums=True).ok


def test_a_backup_replaces_nothing_and_leaves_nothing_where_it_fails(
    command: Command, run: Run
) -> None:
    run("db", "upgrade")
    (command.home / "precious").write_text("mine")
    answer = run("db", "backup", "precious", "--json")
    assert (answer.code, answer.error["type"]) == (1, "FileExistsError")
    assert (command.home / "precious").read_text() == "mine"
    with closing(sqlite3.connect(command.cache / "registry.db")) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.commit()
    answer = run("db", "backup", "copy.db", "--json")
    assert (answer.code, answer.error["type"]) == (3, "NotARegistry")
    assert not (command.home / "copy.db").exists()


# --- recovery -----------------------------------------------------------------------------------


def test_what_a_damaged_database_knew_is_brought_back(command: Command, run: Run) -> None:
    with Registry(command.cache) as registry:
        kept, lost = prepared(registry, "kept"), prepared(registry, "lost")
    assert lost.path is not None
    lost.path.unlink()
    with closing(sqlite3.connect(command.cache / "registry.db")) as connection:
        connection.execute("DELETE FROM alembic_version")
        connection.commit()

    assert "db recover" in run("ls").err  # it was set aside, and that was said
    answer = run("db", "recover", "--json")
    (place,) = (command.cache / "damaged").iterdir()
    assert (answer.code, answer.document) == (
        0,
        {"folder": str(place), "read": 2, "recovered": 1, "known": 0, "missing": 1, "damaged": 0},
    )
    with Registry(command.cache) as registry:
        assert registry.need(kept.id) is not None
    assert run("db", "recover", place).out == (
        f"{place}: 2 artifacts can be read; 0 were recovered, 1 were already known, "
        "1 have no file, 0 have a damaged file\n"
    )


def test_where_nothing_was_set_aside_there_is_nothing_to_recover(run: Run) -> None:
    for arguments in ((), ("nowhere",)):
        answer = run("db", "recover", *arguments, "--json")
        assert (answer.code, answer.out, answer.error["type"]) == (1, "", "FileNotFoundError")
    assert answer.error["message"] == "nowhere/registry.db: No such file or directory"


@pytest.mark.parametrize("verb", ["current", "history", "path"])
def test_a_plain_file_is_no_cache_to_be_looked_at(verb: str, run: Run, command: Command) -> None:
    command.cache.write_bytes(b"a file")
    answer = run("db", verb)
    assert answer.code == 3
    assert "is not a directory" in answer.err
