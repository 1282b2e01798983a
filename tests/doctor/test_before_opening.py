"""The doctor where something keeps a cache from being opened: it looks, tells, and changes nothing.

Each circumstance is made for real, and what is advised is what helps.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.closed import execute, prepared_cache, tree
from support.command import Command
from support.mounts import mounted, remount
from support.users import as_nobody, open_to_all

from registry import Registry
from registry.doctor import Finding, examine, examine_path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, or be another user")


def finding(path: str | Path, name: str) -> Finding:
    (found,) = [found for found in examine_path(path) if found.name == name]
    return found


def problems(path: str | Path) -> dict[str, Finding]:
    return {found.name: found for found in examine_path(path) if found.verdict == "problem"}


def paste(advice: str) -> None:
    """Run every command of an advice as a shell would."""
    commands = [command.removeprefix("sudo ") for command in re.findall("`([^`]*)`", advice)]
    assert commands
    for command in commands:
        line = re.sub("^registry ", f"{sys.executable} -m registry ", command)
        subprocess.run(["sh", "-c", line], check=False, capture_output=True)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, in a home of its own."""
    return Command(tmp_path)


def test_a_sound_cache_is_told_as_by_one_who_has_it_open(cache: Path) -> None:
    prepared_cache(cache)
    found = examine_path(cache)
    with Registry(cache) as registry:
        assert [it.name for it in found] == [it.name for it in examine(registry)]
    assert {it.name for it in found if it.verdict == "problem"} <= {"disk", "execution", "inodes"}


def test_a_refused_directory_is_reported_whole_and_repaired_as_advised(command: Command) -> None:
    cache = command.cache
    prepared_cache(cache)
    for name in (".", "artifacts", "hosts", "workers"):
        (cache / name).chmod(0o2770)
    (cache / "registry.db").chmod(0o660)
    before = tree(cache)
    answer = command("doctor")
    assert (answer.code, answer.err) == (1, "")
    for path in (cache, cache / "artifacts", cache / "hosts", cache / "workers"):
        assert f"{path} can be written by others (mode 2770)" in answer.out
    assert f"{cache}/registry.db can be written by others" in answer.out
    for name in ("file system", "execution", "inodes", "confinement", "SQLite", "disk"):
        assert re.search(f"^\\w+ +{name} ", answer.out, re.MULTILINE), name
    assert tree(cache) == before
    paste(finding(cache, "directory").advice)
    assert command("doctor").code == 0


def test_programs_get_the_same_report(command: Command) -> None:
    prepared_cache(command.cache)
    command.cache.chmod(0o777)
    answer = command("doctor", "--json")
    assert answer.code == 1
    (found,) = [it for it in answer.document if it["name"] == "directory"]
    assert found["verdict"] == "problem"


@pytest.mark.parametrize(
    "name",
    ["file", "file/cache", "dangling", "dangling/a", "link", "d" * 300, "d/" * 300, "~nobodyhere"],
)
def test_a_path_that_cannot_be_a_cache_is_reported(command: Command, name: str) -> None:
    (command.home / "file").touch()
    (command.home / "dangling").symlink_to("nowhere")
    (command.home / "link").symlink_to(".")
    before = tree(command.home)
    path = name if name.startswith("~") else command.home / name
    answer = command("--cache", path, "doctor")
    assert (answer.code, answer.err) == (1, "")
    assert "problem  directory" in answer.out
    assert tree(command.home) == before


@pytest.mark.parametrize("wrong", ["", "nul\0", "\ud800", "/"])
def test_a_name_that_means_nothing_is_a_finding(wrong: str) -> None:
    assert "directory" in problems(wrong)


# --- the database -------------------------------------------------------------------------------


def make_junk(database: Path) -> None:
    database.write_bytes(b"junk " * 2000)


def make_empty(database: Path) -> None:
    database.write_bytes(b"")


def make_missing(database: Path) -> None:
    database.unlink()


def damage_a_page(database: Path) -> None:
    whole = bytearray(database.read_bytes())
    for at in range(4096 * 2, len(whole), 4096):
        whole[at : at + 64] = b"\xff" * 64
    database.write_bytes(whole)


def lose_the_revision(database: Path) -> None:
    execute(database, "DELETE FROM alembic_version")


@pytest.mark.parametrize(
    "spoil", [make_junk, make_empty, make_missing, damage_a_page, lose_the_revision]
)
def test_a_damaged_database_is_told_and_left_where_it_is(
    cache: Path, spoil: Callable[[Path], None]
) -> None:
    database = prepared_cache(cache)
    spoil(database)
    content = database.read_bytes() if database.exists() else None
    found = problems(cache)["database"]
    assert found.value == "damaged"
    assert not (cache / "damaged").exists()
    assert (database.read_bytes() if database.exists() else None) == content
    paste(found.advice)
    assert (cache / "damaged").exists()
    assert "database" not in problems(cache)


def test_a_database_of_another_application_is_told(cache: Path) -> None:
    cache.mkdir(mode=0o700)
    execute(cache / "registry.db", "CREATE TABLE theirs (x)")
    content = (cache / "registry.db").read_bytes()
    assert "another" in problems(cache)["opening"].advice
    assert (cache / "registry.db").read_bytes() == content


def test_a_newer_schema_that_excludes_us_is_told(cache: Path) -> None:
    newer = "UPDATE alembic_version SET version_num = '9999'"
    execute(prepared_cache(cache), newer, "UPDATE cache SET oldest_version = '999.0'")
    assert "upgrade registry" in problems(cache)["opening"].advice


def test_a_database_with_a_second_name_is_told_and_not_opened(cache: Path, tmp_path: Path) -> None:
    database = prepared_cache(cache)
    (tmp_path / "other").mkdir()
    os.link(database, tmp_path / "other" / "registry.db")
    found = problems(cache)["database"]
    assert "2 names" in found.value
    (search, *_) = re.findall("`([^`]*)`", found.advice)
    done = subprocess.run(["sh", "-c", search], capture_output=True, text=True, check=False)
    assert {str(database), str(tmp_path / "other" / "registry.db")} <= {*done.stdout.splitlines()}


def test_whatever_fails_while_it_is_looked_at_is_a_finding(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared_cache(cache)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(cache))

    monkeypatch.setattr("os.statvfs", fail)
    found = problems(cache)
    for name in ("execution", "inodes", "disk"):
        assert found[name].advice == f"{cache}: {os.strerror(errno.EIO)}"


def test_few_open_files_are_a_note(cache: Path) -> None:
    prepared_cache(cache)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        found = finding(cache, "open files")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (found.verdict, found.value) == ("note", "200 a process")
    assert "ulimit -n" in found.advice


# --- the disk -----------------------------------------------------------------------------------


@needs_root
def test_a_cache_mounted_noexec_is_named_and_well_after_what_is_advised(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=8m,mode=700,noexec") as disk:
        prepared_cache(disk / "cache")
        for path in (disk / "cache", disk / "not" / "made"):
            found = finding(path, "execution")
            assert found.value == f"mounted noexec ({disk})"
            assert found.verdict != "ok"
        with Registry(disk / "cache") as registry:
            assert found in examine(registry)
        paste(found.advice.replace("`exec`", "exec"))
        assert finding(disk / "cache", "execution").verdict == "ok"


@needs_root
def test_artifacts_on_a_noexec_mount_of_their_own_are_named(cache: Path) -> None:
    cache.mkdir(mode=0o700)
    with mounted(cache / "artifacts", "size=8m,mode=700,noexec") as artifacts:
        prepared_cache(cache)
        assert finding(cache, "execution").value == f"mounted noexec ({artifacts})"


def fill_inodes(disk: Path) -> None:
    for number in range(200):
        (disk / str(number)).touch()


def fill_bytes(disk: Path) -> None:
    with open(disk / "filler", "wb", 0) as filler:
        while True:
            filler.write(bytes(4096))


@needs_root
def test_a_disk_without_an_inode_left_is_told(command: Command) -> None:
    with mounted(command.home / "disk", "size=16m,nr_inodes=100,mode=700") as disk:
        prepared_cache(disk / "cache")
        with pytest.raises(OSError, match="No space"):
            fill_inodes(disk)
        answer = command("--cache", disk / "cache", "doctor")
        assert answer.code == 1
        assert re.search("^problem  inodes +[0-9]+ of 100 free", answer.out, re.MULTILINE)
        assert "df -i" in answer.out
        assert "ok       file system        tmpfs" in answer.out
        for number in range(50):
            (disk / str(number)).unlink()
        assert finding(disk / "cache", "inodes").verdict == "ok"


@needs_root
def test_a_disk_without_a_byte_left_is_told(command: Command) -> None:
    with mounted(command.home / "disk", "size=4m,mode=700") as disk:
        prepared_cache(disk / "cache")
        with pytest.raises(OSError, match="No space"):
            fill_bytes(disk)
        answer = command("--cache", disk / "cache", "doctor")
        assert answer.code == 1
        assert re.search("^problem  disk +[0-9.]+ K?i?B free", answer.out, re.MULTILINE)
        assert "prune --limit 4 --min-stale 0`" in answer.out  # half of what is held
        assert "ok       file system        tmpfs" in answer.out
        (disk / "filler").unlink()
        assert finding(disk / "cache", "disk").verdict in ("ok", "note")


@needs_root
def test_a_disk_that_became_read_only_is_told(command: Command) -> None:
    with mounted(command.home / "disk", "size=4m,mode=700") as disk:
        prepared_cache(disk / "cache")
        remount(disk, "ro")
        answer = command("--cache", disk / "cache", "doctor")
        assert answer.code == 1
        assert "read-only file system" in answer.out
        paste(finding(disk / "cache", "directory").advice)
        assert command("--cache", disk / "cache", "stats").code == 0


@needs_root
def test_what_may_not_be_read_is_told() -> None:
    with open_to_all() as top:
        prepared_cache(top / "closed" / "cache")
        prepared_cache(top / "theirs")
        (top / "theirs").chmod(0o755)
        for path in (top / "closed" / "cache", top / "theirs"):
            said = as_nobody(lambda path=path: "; ".join(problems(path)))
            assert said == "directory"


def test_a_write_lock_of_another_program_is_told(cache: Path) -> None:
    prepared_cache(cache)
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = problems(cache)
    assert "held by another" in found["write lock"].value
    assert "write lock" not in problems(cache)


def test_a_database_that_another_program_has_to_itself_is_told(cache: Path) -> None:
    prepared_cache(cache)
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        found = problems(cache)
    assert "locked by another program" in found["opening"].advice
    assert "opening" not in problems(cache)
