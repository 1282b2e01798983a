"""Open a cache: which databases are taken, which are refused, which are set aside.

After a refusal, what was there is as it was.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.closed import CODE, execute, prepared_cache, tree
from support.frozen import PREPARED, thawed
from support.opener import open_and_use
from support.racing import race

from registry import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    NotARegistry,
    OpenTimeout,
    Registry,
    RegistryError,
    SchemaTooNew,
    SchemaTooOld,
)
from registry.opening import lock as lock_module
from registry.opening import migrate


def test_an_empty_database_without_an_identity_is_new(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(0o700)
    (cache / "registry.db").touch(0o600)
    with Registry(cache) as registry:
        assert registry.get_or_prepare(CODE, lambda: b"artifact").size == 8
        assert registry.check().ok
    assert not (cache / "damaged").exists()


@pytest.mark.parametrize("beside", [True, False], ids=["with an identity", "without"])
@pytest.mark.parametrize(
    "content",
    [b"\x00" * 8192, b"SQLite format 3\0", bytes(range(256)) * 32],
    ids=["zeros", "a bare header", "noise"],
)
def test_a_database_of_random_bytes_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, beside: bool
) -> None:
    cache = tmp_path / "cache"
    path = prepared_cache(cache)
    identity = (cache / "cache.id").read_text()
    path.write_bytes(content)
    if not beside:
        (cache / "cache.id").unlink()
    with caplog.at_level(logging.WARNING, "registry"), Registry(cache) as registry:
        assert registry.get(CODE) is None
        registry.check(repair=True)
        assert registry.check().ok
    assert "set aside" in caplog.text
    (aside,) = (cache / "damaged").iterdir()
    assert (aside / "registry.db").read_bytes() == content
    assert (cache / "cache.id").read_text() != identity
    assert list((cache / "artifacts").iterdir()) == []  # garbage: their names say nothing


def test_an_empty_database_beside_an_identity_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    path = prepared_cache(cache)
    for spoil in (lambda: path.write_bytes(b""), path.unlink):
        spoil()
        caplog.clear()
        Registry(cache).close()
        assert "set aside" in caplog.text


HOLDER = """\
import sys
from registry import ArtifactId, Registry
with Registry(sys.argv[1]) as registry:
    registry.get_or_prepare(ArtifactId.of(b"code"), lambda: b"artifact")
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_damaged_database_that_another_host_has_open_is_left_to_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", HOLDER, cache], **pipes) as holder:
        assert holder.stdout.readline() == b"open\n"
        for name in ("registry.db", "registry.db-wal"):
            (cache / name).write_bytes(b"\xff" * (cache / name).stat().st_size)
        before = tree(cache)
        with pytest.raises(DatabaseDamaged, match="1 other host"):
            Registry(cache)
        after = tree(cache)
        holder.communicate()
    assert {name for name in after if after[name] != before.get(name)} <= {
        "open.lock",
        "registry.db-shm",
    }


def test_a_truncated_database_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    """Wherever it was cut: it is set aside by opening, or a verb says `DatabaseDamaged`."""
    whole = prepared_cache(tmp_path / "whole").read_bytes()
    for size in (1, 100, 512, 4095, *range(4096, len(whole), 4096)):
        cache = shutil.copytree(tmp_path / "whole", tmp_path / str(size))
        (cache / "registry.db").write_bytes(whole[:size])
        found: list[str] = []
        try:
            with Registry(cache) as registry:
                found += [problem.kind for problem in registry.check().problems]
                registry.get_or_prepare(CODE, lambda: b"artifact")
        except DatabaseDamaged:
            continue
        assert (cache / "damaged").exists() or "integrity" in found, size


@pytest.mark.parametrize(
    "made_by",
    [
        ("CREATE TABLE theirs (x)",),
        ("PRAGMA application_id = 1234",),
        ("PRAGMA application_id = 1234", "CREATE TABLE theirs (x)"),
        ("PRAGMA journal_mode = WAL", "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)"),
    ],
    ids=["tables", "an id", "tables and an id", "WAL"],
)
def test_a_database_of_another_application_is_left_as_it_is(
    tmp_path: Path, made_by: tuple[str, ...]
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(0o700)
    execute(cache / "registry.db", *made_by)
    before = (cache / "registry.db").read_bytes()
    with pytest.raises(NotARegistry, match="another"):
        Registry(cache)
    assert (cache / "registry.db").read_bytes() == before
    assert [entry.name for entry in cache.iterdir()] == ["registry.db"]


@pytest.mark.parametrize("beside", [True, False], ids=["with an identity", "without"])
@pytest.mark.parametrize("how", ["DROP TABLE alembic_version", "DELETE FROM alembic_version"])
def test_a_database_that_lost_its_revision_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, beside: bool
) -> None:
    cache = tmp_path / "cache"
    execute(prepared_cache(cache), how)
    if not beside:
        (cache / "cache.id").unlink()
    with Registry(cache) as registry:
        assert registry.get(CODE) is None
    assert "set aside" in caplog.text


# --- its schema ---------------------------------------------------------------------------------

NEWER = ("UPDATE alembic_version SET version_num = '9999'", "CREATE TABLE later (x)")


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_newer_schema_that_excludes_us_is_refused(tmp_path: Path, upgrade: bool) -> None:
    cache = tmp_path / "cache"
    path = prepared_cache(cache)
    execute(path, *NEWER, "UPDATE cache SET oldest_version = '999.0'")
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"9999.*upgrade registry"):
        Registry(cache, upgrade=upgrade)
    assert path.read_bytes() == before
    assert not (cache / "damaged").exists()


def test_a_newer_schema_that_admits_us_is_used_as_it_is(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = prepared_cache(cache)
    execute(path, *NEWER)
    with Registry(cache) as registry:
        assert registry.need(CODE) is not None
    assert migrate.revision_of(str(path)) == "9999"


def test_an_older_schema_is_refused_where_upgrading_is_not_allowed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = prepared_cache(cache)
    (cache / "cache.id").unlink()
    migrate.downgrade(str(path), "0001")
    before = path.read_bytes()
    with pytest.raises(SchemaTooOld, match="registry db upgrade"):
        Registry(cache, upgrade=False)
    assert path.read_bytes() == before
    with Registry(cache) as registry:
        assert registry.need(CODE) is not None


THEIRS = {
    "a view that has the name of a new one": ("CREATE VIEW counters AS SELECT 1 AS one",),
    "a reference to nothing": (
        "PRAGMA foreign_keys = OFF",
        "CREATE TABLE theirs (it REFERENCES artifact(id))",
        "INSERT INTO theirs VALUES (-1)",
    ),
}


@pytest.mark.parametrize("made", THEIRS)
def test_an_upgrade_that_does_not_go_through_leaves_all_as_it_was(
    tmp_path: Path, made: str
) -> None:
    """A statement that is refused is no damage: nothing is set aside, no artifact is lost."""
    cache = thawed("0003", tmp_path / "cache")
    path = cache / "registry.db"
    execute(path, *THEIRS[made])
    before = path.read_bytes()
    with pytest.raises(SchemaTooOld, match=r"0003 and could not be upgraded.*nothing was changed"):
        Registry(cache)
    assert path.read_bytes() == before
    assert not (cache / "damaged").exists()
    execute(path, "DROP VIEW IF EXISTS counters", "DROP TABLE IF EXISTS theirs")
    with Registry(cache) as registry:
        assert registry.stats().prepared_count == len(PREPARED)
        assert registry.check(checksums=True).ok


def test_a_new_cache_needs_no_leave_to_upgrade(tmp_path: Path) -> None:
    with Registry(tmp_path / "cache", upgrade=False) as registry:
        assert registry.check().ok


# --- together -----------------------------------------------------------------------------------


def test_many_processes_may_open_a_new_cache_at_once(tmp_path: Path) -> None:
    rounds = [tmp_path / str(number) for number in range(10)]
    for cache, uuids in zip(rounds, race(open_and_use, rounds, 8), strict=True):
        assert [uuid for uuid in uuids if isinstance(uuid, Exception)] == []
        assert set(uuids) == {(cache / "cache.id").read_text().strip()}
        with Registry(cache) as registry:
            assert registry.stats().prepared_count == 1
            assert registry.check(checksums=True).ok


@contextmanager
def somebody_opening(cache: Path) -> Iterator[None]:
    """Hold `open.lock`, as one does who creates or migrates a cache."""
    with open(cache / "open.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def test_an_opening_that_takes_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "OPEN_TIMEOUT_SECONDS", 0.0)
    cache = tmp_path / "cache"
    cache.mkdir(0o700)
    with somebody_opening(cache), pytest.raises(OpenTimeout, match=str(os.getpid())):
        Registry(cache)
    Registry(cache).close()


def test_a_cache_that_is_ready_is_opened_while_another_one_is_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "OPEN_TIMEOUT_SECONDS", 0.0)
    cache = tmp_path / "cache"
    prepared_cache(cache)
    with somebody_opening(cache):
        Registry(cache).close()


def test_a_refused_opening_leaves_no_descriptor_open(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = prepared_cache(cache)
    execute(path, *NEWER, "UPDATE cache SET oldest_version = '999.0'")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(RegistryError):
            Registry(cache)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_cache_whose_locks_do_not_work_is_refused_and_leaves_no_descriptor_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    prepared_cache(cache)
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)  # as some file systems have it
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(CacheDirectoryRefused, match="locks do not work"):
            Registry(cache)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert list((cache / "hosts").iterdir()) == []


OPEN_WITH_FEW_FILES = """
import os, resource, sys
from registry import CacheDirectoryRefused, Registry
few = len(os.listdir("/proc/self/fd")) - 1 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
try:
    Registry(sys.argv[1]).close()
except CacheDirectoryRefused as error:
    print(error)
"""


def test_no_want_of_descriptors_is_taken_for_damage(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepared_cache(cache)
    refusal, more = "?", 0
    while refusal:  # until there are enough to open it
        tried = [sys.executable, "-c", OPEN_WITH_FEW_FILES, str(cache), str(more)]
        opened = subprocess.run(tried, capture_output=True, text=True, check=False)
        assert opened.returncode == 0, opened.stderr
        refusal, more = opened.stdout, more + 1
        assert not (cache / "damaged").exists(), refusal
    assert more > 3, "some were refused"
    with Registry(cache) as registry:
        assert registry.need(CODE) is not None
        assert registry.check().ok


@pytest.mark.parametrize("mode", [0o400, 0o000])
def test_a_read_only_database_is_refused_before_sqlite_makes_read_only_files_beside_it(
    mode: int, cache: Path
) -> None:
    Registry(cache).close()
    database = cache / "registry.db"
    database.chmod(mode)
    with pytest.raises(CacheDirectoryRefused, match=r"registry\.db is read-only"):
        Registry(cache)
    assert [path.name for path in cache.glob("registry.db*")] == ["registry.db"]
    database.chmod(0o600)
    Registry(cache).close()
