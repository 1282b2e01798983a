"""What is prepared is answered whenever it can be read, whatever else the disk refuses.

A lock that another program holds, a full disk, a quota, a file system that was remounted read-only:
a hit waits for none of them and raises none of them. Its last use is written later.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.disks import mounted
from support.making import prepared
from support.tables import row
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import (
    ArtifactId,
    AsyncRegistry,
    Registry,
    RegistryBusy,
)

NOW = timedelta(0)
LOCKS = ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]


@contextmanager
def held(cache: Path, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Hold the write lock, as a shell in a transaction does."""
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as shell:
        shell.execute("PRAGMA wal_autocheckpoint = 0")
        shell.execute(begin)
        yield
        shell.execute("ROLLBACK")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a verb that must wait for a lock say so at once, and loudly."""
    monkeypatch.setattr("registry.verbs.database.PATIENCE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begin", LOCKS)
@pytest.mark.parametrize("known", [False, True], ids=["first met", "known"])
def test_a_hit_does_not_wait_for_the_lock_of_another_program(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    cache: Path,
    known: bool,
    begin: str,
) -> None:
    artifact = prepared(registry, id)
    if known:
        other.need(id)
    clock.tick(timedelta(minutes=1))
    with held(cache, begin):
        assert other.need(id) == artifact
        assert other.get_or_prepare(id, lambda: b"another") == artifact
        with other.open_file(id) as file:
            assert len(file.read()) == artifact.size
        with pytest.raises(RegistryBusy):
            other.remove(id)


@pytest.mark.usefixtures("impatient")
def test_a_hit_under_a_lock_is_written_later(
    clock: FrozenDateTimeFactory, registry: Registry, id: ArtifactId, cache: Path
) -> None:
    artifact = prepared(registry, id)
    assert artifact.last_time_needed is not None
    clock.tick(timedelta(minutes=1))
    with held(cache):
        assert registry.need(id) is not None
    clock.tick(timedelta(minutes=1))
    assert registry.prune(cache_limit=0, min_stale_time=timedelta(seconds=90)) == []
    found = registry.get(id)
    assert found is not None
    assert found.last_time_needed == artifact.last_time_needed + timedelta(minutes=1)


@pytest.mark.usefixtures("impatient")
def test_a_late_use_never_takes_a_later_one_back(
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
    cache: Path,
) -> None:
    prepared(registry, id)
    clock.tick(timedelta(minutes=1))
    with held(cache):
        assert registry.need(id) is not None
    clock.tick(timedelta(minutes=1))
    needed = other.need(id)
    registry.close()
    assert other.get(id) == needed


@pytest.mark.usefixtures("impatient")
def test_a_cache_is_opened_for_hits_while_another_program_holds_the_lock(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    artifact = prepared(registry, id)
    with held(cache), Registry(cache) as late:
        assert late.get_or_prepare(id, lambda: b"another").checksum == artifact.checksum
    with held(cache):
        late = Registry(cache)
        with pytest.raises(RegistryBusy):
            late.claim(ArtifactId.of(b"another"))
    late.get_or_prepare(ArtifactId.of(b"another"), lambda: b"another")
    assert len(late.hosts()) == 2  # its first claim has listed it
    late.close()
    assert registry.check(checksums=True).ok


@pytest.mark.usefixtures("impatient")
def test_an_event_loop_has_its_hits_too(cache: Path, registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)

    async def hits() -> None:
        async with AsyncRegistry(cache) as late:
            assert await late.need(id) is not None
            assert await late.get_or_prepare(id, lambda: b"another") is not None
            (await late.open_file(id)).close()

    with held(cache):
        asyncio.run(hits())
    assert row(cache, id) is not None


def test_the_command_runs_what_is_prepared_while_the_lock_is_held(
    cache: Path, tmp_path: Path
) -> None:
    module = tmp_path / "one.wat"
    module.write_text('(module (func (export "one") (result i32) i32.const 1))')
    argv = [sys.executable, "-m", "registry", "--cache", str(cache), "run", str(module)]

    def run() -> str:
        done = subprocess.run(
            [*argv, "--invoke", "one"], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Registry(cache):
        assert run() == "1\n"
        with held(cache):
            assert run() == "1\n"


# --- a file system that was remounted read-only ------------------------------------------------

READ_ONLY = """
import gc, os, sys
from datetime import timedelta
from pathlib import Path
from registry import ArtifactId, CacheDirectoryRefused, Registry
code = lambda number: ArtifactId.of(b"%d" % number)
registry = Registry(sys.argv[1])
for number in range(4):
    registry.get_or_prepare(code(number), lambda: b"x" * 1000)
for number in range(3):
    registry.need(code(number))
registry.configure(min_stale_time=timedelta(0))
assert registry.need(code(0)) is not None
claim = registry.claim(code(9))
os.sync()  # a page that is clean may not be written any more
gc.disable()
Path(sys.argv[2]).write_text("test")
assert registry.need(code(0)).size == 1000
assert registry.get_or_prepare(code(1), lambda: b"another").size == 1000
assert registry.get_or_prepare(code(3), lambda: b"another").size == 1000
assert registry.open_file(code(2)).read() == b"x" * 1000
assert registry.get(code(2)).size == 1000
for verb in (
    lambda: registry.claim(code(10)),
    lambda: claim.publish(b"late"),
    lambda: registry.prune(cache_limit=0, min_stale_time=timedelta(0)),
    lambda: registry.remove(code(1)),
    lambda: Registry(sys.argv[1]),
):
    try:
        verb()
    except CacheDirectoryRefused as error:
        assert "read-only" in str(error), error
    else:
        raise AssertionError("it was not refused")
registry.close()
for fd in os.listdir("/proc/self/fd"):
    if os.path.exists(f"/proc/self/fd/{fd}"):
        assert not os.readlink(f"/proc/self/fd/{fd}").startswith(sys.argv[1])
print("done")
"""


def test_hits_are_answered_on_a_file_system_that_was_remounted_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", "errors=remount-ro") as disk:
        source = subprocess.check_output(["findmnt", "-no", "SOURCE", disk], text=True).strip()
        trigger = Path("/sys/fs/ext4", os.path.basename(source), "trigger_fs_error")
        if not trigger.exists():
            pytest.skip("this kernel lets nobody trigger an error of ext4")
        argv = [sys.executable, "-c", READ_ONLY, disk / "cache", trigger]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
        assert done.stdout == "done\n", done.stderr
    assert not (disk / "cache").exists()  # it is no longer mounted


# --- a quota, by a library that refuses what would grow ------------------------------------------

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int refused(int fd, long long end) {
  char link[64], path[4096];
  struct stat found;
  if (access(getenv("FULL_MARK"), F_OK)) return 0;
  snprintf(link, 64, "/proc/self/fd/%d", fd);
  int length = readlink(link, path, 4095);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, getenv("FULL_CACHE"), strlen(getenv("FULL_CACHE")))) return 0;
  fstat(fd, &found);
  if (!S_ISREG(found.st_mode) || end <= (long long)found.st_blocks * 512) return 0;
  errno = atoi(getenv("FULL_ERRNO"));
  return 1;
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
  return refused(fd, o + n) ? -1 : real(fd, b, n, o);
}
ssize_t write(int fd, const void *b, size_t n) {
  static ssize_t (*real)(int, const void *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "write");
  long long at = lseek(fd, 0, SEEK_CUR);
  return at >= 0 && refused(fd, at + n) ? -1 : real(fd, b, n);
}
"""

QUOTA = """
import os, sys
from datetime import timedelta
from registry import ArtifactId, DiskFull, Registry
code = lambda number: ArtifactId.of(b"%d" % number)
cache, mark, fresh = sys.argv[1], os.environ["FULL_MARK"], sys.argv[2] == "fresh"
registry = Registry(cache)
for number in range(20):
    registry.get_or_prepare(code(number), lambda: b"x" * 10_000)
if fresh:
    registry.close()
open(mark, "w").close()
if fresh:
    try:
        registry = Registry(cache)
    except DiskFull:
        print("cannot be opened: DiskFull")
        os.unlink(mark)
        registry = Registry(cache)
        open(mark, "w").close()
for number in range(3):
    assert registry.get_or_prepare(code(number), lambda: b"y").size == 10_000
    registry.open_file(code(number)).close()
try:
    registry.get_or_prepare(code(100), lambda: b"y" * 20_000)
    print("made all the same")
except DiskFull:
    pass
try:
    registry.prune(cache_limit=0, min_stale_time=timedelta(0))
except DiskFull:
    print("cannot be pruned: DiskFull")
registry.close()
os.unlink(mark)
with Registry(cache) as registry:
    registry.check(repair=True)
    assert registry.check(checksums=True).ok
    assert not os.path.exists(cache + "/damaged")
print("done")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a library that refuses, as a quota does, whatever would take more room."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    build = ["gcc", "-shared", "-fPIC", "-O1", "-o", "shim.so", "shim.c", "-ldl"]
    subprocess.run(build, cwd=folder, check=True)
    return folder / "shim.so"


@pytest.mark.parametrize("opened", ["fresh", "open"])
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_quota_is_a_full_disk_and_no_damage(
    tmp_path: Path, shim: Path, error: str, opened: str
) -> None:
    import errno

    cache = tmp_path / "cache"
    full = {
        "LD_PRELOAD": str(shim),
        "FULL_MARK": str(tmp_path / "mark"),
        "FULL_CACHE": str(cache),
        "FULL_ERRNO": str(getattr(errno, error)),
    }
    argv = [sys.executable, "-c", QUOTA, cache, opened]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=100, env={**os.environ, **full}
    )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stdout + done.stderr
