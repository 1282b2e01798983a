"""The doctor: each finding is provoked for real, and what it advises is what helps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.closed import CODE, execute, prepared_cache
from support.making import claimed, prepared
from support.tables import DEAD, change, connected, die

from registry import ArtifactId, Registry
from registry.confinement import isolation
from registry.confinement.isolation import Means
from registry.doctor import Finding, examine, has_wal_reset_bug
from registry.opening.migrate import HEAD

DEATHS = 6  # the first failure and five retries


def finding(registry: Registry, name: str) -> Finding:
    (found,) = [found for found in examine(registry) if found.name == name]
    return found


def kill_its_host(registry: Registry, id: ArtifactId, times: int) -> None:
    """Let the host that prepares an artifact die so often, and be reaped by this one."""
    for _ in range(times):
        claim = claimed(registry, id)
        die(registry.cache_dir, claim.id)
        registry.wait(id)


def test_a_sound_cache_has_no_problem(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    findings = examine(registry)
    assert len({found.name for found in findings}) == len(findings) == 22
    well = {found.name for found in findings if found.verdict == "ok"}
    # What this machine's SQLite, disk and kernel are like is not ours to say.
    of_the_machine = {"SQLite", "disk", "inodes", "execution", "open files", "confinement"}
    assert {found.name for found in findings} - well <= of_the_machine
    assert all(bool(found.advice) == (found.verdict != "ok") for found in findings)


def test_what_jobs_can_be_confined_by_is_told_and_what_is_not_held(registry, monkeypatch) -> None:
    found = finding(registry, "confinement")
    means = isolation.available()
    assert found.value == isolation.describe(means)
    assert found.advice == isolation.missing(means)
    monkeypatch.setattr(isolation, "available", Means)
    found = finding(registry, "confinement")
    assert (found.verdict, found.value) == (
        "note",
        "no Landlock, no seccomp, no namespaces, no cgroup",
    )
    for promise in isolation.promises(Means()):
        assert (promise.sentence in found.advice) != promise.holds


@pytest.mark.parametrize(
    ("version", "vulnerable"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_versions_with_the_wal_reset_bug_are_known(
    version: tuple[int, ...], vulnerable: bool
) -> None:
    assert has_wal_reset_bug(version) == vulnerable


@pytest.mark.parametrize(
    ("version", "verdict", "words"),
    [("3.51.2", "note", "vulnerable, guarded"), ("3.51.3", "ok", "fixed")],
)
def test_a_vulnerable_sqlite_is_told_as_guarded(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, version: str, verdict: str, words: str
) -> None:
    numbers = tuple(map(int, version.split(".")))
    monkeypatch.setattr("sqlite3.sqlite_version_info", numbers)
    monkeypatch.setattr("sqlite3.sqlite_version", version)
    found = finding(registry, "SQLite")
    assert (found.verdict, found.value) == (verdict, f"{version}, WAL-reset bug: {words}")


def test_a_database_without_wal_is_a_problem(cache: Path) -> None:
    execute(prepared_cache(cache), "PRAGMA journal_mode = DELETE")
    with Registry(cache) as registry:
        found = finding(registry, "journal")
    assert (found.value, found.verdict) == ("delete", "problem")
    (command,) = re.findall("`(.*)`", found.advice)
    assert command == f"sqlite3 {cache}/registry.db 'PRAGMA journal_mode = WAL'"


def test_a_newer_schema_is_a_note(cache: Path) -> None:
    execute(prepared_cache(cache), "UPDATE alembic_version SET version_num = '9999'")
    with Registry(cache) as registry:
        found = finding(registry, "schema")
    assert (found.value, found.verdict) == (f"revision 9999, we know {HEAD}", "note")


def test_another_caches_database_is_a_problem(registry: Registry) -> None:
    (registry.cache_dir / "cache.id").write_text("another\n")
    found = finding(registry, "identity")
    assert found.verdict == "problem"
    assert "cache.id says another" in found.advice


def test_a_directory_that_others_may_write_to_is_a_problem(registry: Registry) -> None:
    registry.cache_dir.chmod(0o770)
    found = finding(registry, "directory")
    assert found.verdict == "problem"
    assert found.value.endswith(f"user {os.geteuid()}, mode 0770")
    (command,) = re.findall("`(.*)`", found.advice)
    subprocess.run(["sh", "-c", command], check=True)
    assert finding(registry, "directory").verdict == "ok"


def test_a_network_file_system_is_a_problem(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.doctor.file_system", lambda _: "nfs4")  # mounted over it since
    assert finding(registry, "file system").verdict == "problem"


def test_locks_that_refuse_nobody_are_a_problem(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)  # as some file systems have it
    found = finding(registry, "file locks")
    assert found.verdict == "problem"
    assert "file locks do not work" in found.advice


def _a_file(cache: Path) -> None:
    (cache / "artifacts" / f"{0:0128x}.pvf").write_bytes(b"nobody's")


def _a_row(cache: Path) -> None:
    with connected(cache) as connection:
        connection.execute(
            "INSERT INTO host (id, pid, hostname, command, opened_at, version) "
            "VALUES (?, 1, 'here', 'python', 0, '1')",
            (DEAD,),
        )


def _a_lock(cache: Path) -> None:
    (cache / "hosts" / f"{DEAD}.lock").touch(0o600)


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (_a_file, "1 files, 0 dead hosts"),
        (_a_row, "0 files, 1 dead hosts"),
        (_a_lock, "0 files, 1 dead hosts"),
    ],
)
def test_what_the_dead_left_is_a_note_and_repaired_as_advised(
    registry: Registry, leave: Callable[[Path], None], told: str
) -> None:
    leave(registry.cache_dir)
    found = finding(registry, "orphans")
    assert (found.value, found.verdict) == (told, "note")
    paste(found.advice)
    assert finding(registry, "orphans").value == "none"


def test_less_room_on_the_disk_than_the_limit_allows_is_a_note(registry: Registry) -> None:
    registry.configure(cache_limit=1)
    assert finding(registry, "disk").verdict == "ok"
    registry.configure(cache_limit=2**62)
    found = finding(registry, "disk")
    assert found.verdict == "note"
    assert found.value.endswith(" free, 4.0 EiB more may be stored")
    assert found.figures["wanted"] == 2**62


def test_a_limit_below_what_is_needed_lately_is_a_problem(
    registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id, size=2000)
    registry.configure(cache_limit=1999)
    found = finding(registry, "limit")
    assert (found.value, found.verdict) == (
        "2.0 KiB held, 2.0 KiB of it needed lately, limit 2.0 KiB",
        "problem",
    )
    assert found.figures == {"held": 2000, "needed_lately": 2000, "limit": 1999}
    registry.configure(cache_limit=2000)
    assert finding(registry, "limit").verdict == "ok"


def test_what_is_held_but_not_needed_lately_may_be_over_the_limit(
    registry: Registry, id: ArtifactId
) -> None:
    prepared(registry, id, size=1000)
    change(registry.cache_dir, id, last_time_needed=0)
    registry.configure(cache_limit=999)
    assert finding(registry, "limit").verdict == "ok"


def test_a_code_that_killed_its_host_once_is_a_note(registry: Registry, id: ArtifactId) -> None:
    kill_its_host(registry, id, 1)
    found = finding(registry, "killed their host")
    assert (found.value, found.verdict) == (id.short, "note")


def test_codes_that_kill_their_host_are_a_problem_until_retried_as_advised(
    registry: Registry, new_id: Callable[[], ArtifactId]
) -> None:
    killers = new_id(), new_id()
    for killer in killers:
        kill_its_host(registry, killer, DEATHS)
    kill_its_host(registry, new_id(), 1)
    found = finding(registry, "killed their host")
    assert found.verdict == "problem"
    (command,) = re.findall("`(.*)`", found.advice)
    *_, first, second = command.split()
    assert {first, second} == {killer.short for killer in killers}
    paste(found.advice)
    assert finding(registry, "killed their host").verdict == "note"
    for killer in killers:
        claimed(registry, killer)


def test_advice_can_be_pasted_whatever_the_cache_is_called(tmp_path: Path) -> None:
    cache = tmp_path / "it's a $HOME; of `ours`"
    with Registry(cache) as registry:
        kill_its_host(registry, CODE, DEATHS)
        paste(finding(registry, "killed their host").advice)
        claimed(registry, CODE)


def paste(advice: str) -> None:
    """Run the command of an advice as a shell would, knowing of no cache."""
    found = re.search("`(registry .*)`", advice)
    assert found is not None
    command = found[1].removeprefix("registry ")
    environment = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m registry {command}"],
        env={**environment, "HOME": "/nonexistent"},
        check=False,  # `check --repair` fails where there was something to repair
        stdout=subprocess.DEVNULL,
    )


# An audit hook stays for ever, so it gets a process of its own.
WATCHED = """
import sys
from registry import Registry
from registry.doctor import examine

with Registry(sys.argv[1]) as registry:
    registry.configure(cache_limit=2**30)
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    examine(registry)
    print(*opened, sep="\\n")
"""


def test_the_files_of_the_database_are_never_opened(cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(cache)], capture_output=True, text=True, check=True
    )
    opened = [Path(line).name for line in done.stdout.splitlines()]
    assert "cache.id" in opened  # so what is opened is seen
    assert [name for name in opened if name.startswith("registry.db")] == []
