"""No room left, on real disks, under each of the codes that it comes as.

A disk that is full, without inodes, over a quota or a limit on file sizes, is `DiskFull`, never
damage; a cache on it can be opened, read and pruned.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.disks import fill, mounted, take_inodes

from registry import ArtifactId, DiskFull, Registry

NOW = timedelta(0)
PIECE = bytes(100_000)
KINDS = ["tmpfs", "ext4", "btrfs"]


def code(number: int) -> ArtifactId:
    return ArtifactId.of(b"%d" % number)


def made(cache: Path, count: int = 4, piece: bytes = PIECE) -> None:
    """Make a cache that holds some artifacts, and close it."""
    with Registry(cache) as registry:
        for number in range(count):
            registry.get_or_prepare(code(number), lambda: piece)


def command(cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "registry", "--cache", str(cache), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100)


def in_process(script: str, *words: Any) -> str:
    """Run a script in a process of its own; what it prints."""
    argv = [sys.executable, "-c", script, *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- opening ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_was_closed_before_the_disk_filled_is_opened_and_pruned(
    tmp_path: Path, kind: str
) -> None:
    with mounted(tmp_path, kind) as disk:
        made(disk / "cache")
        fill(disk)
        for words in (["stats"], ["ls"], ["stats"]):
            done = command(disk / "cache", *words)
            assert done.returncode == 0, done.stderr
        done = command(disk / "cache", "prune", "--limit", "0", "--min-stale", "0")
        assert "artifacts pruned: 4" in done.stderr
        assert (disk / "cache" / "reserve").stat().st_size > 0
        with Registry(disk / "cache") as registry:
            assert registry.check(checksums=True).ok


def test_a_cache_is_opened_and_pruned_without_an_inode_left(tmp_path: Path) -> None:
    with mounted(tmp_path, "tmpfs", "nr_inodes=100") as disk:
        made(disk / "cache", 40, b"tiny")
        take_inodes(disk)
        assert command(disk / "cache", "stats").returncode == 0
        done = command(disk / "cache", "prune", "--limit", "0", "--min-stale", "0")
        assert "artifacts pruned: 40" in done.stderr
        assert (disk / "cache" / "reserve.1").exists()
        with Registry(disk / "cache") as registry:
            assert registry.get_or_prepare(code(1), lambda: PIECE).size == len(PIECE)
            assert registry.check(checksums=True).ok


CREATE = """
import resource, sys
from registry import DiskFull, Registry
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    Registry(sys.argv[1]).close()
    print("made")
except DiskFull as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 1000, 5000, 30_000, 33_000, 40_000, 70_000, 130_000])
def test_a_cache_that_cannot_be_made_for_a_limit_on_file_sizes_says_so(
    tmp_path: Path, limit: int
) -> None:
    cache = tmp_path / "cache"
    said = in_process(CREATE, cache, limit)
    assert said == "made" or ("no room" in said and str(cache) in said)
    made(cache)  # what was begun is no obstacle
    with Registry(cache) as registry:
        assert registry.check(checksums=True).ok


@pytest.mark.parametrize("free", [0, 4, 8, 40, 60, 100, 200, 600])
def test_a_cache_that_cannot_be_made_on_a_full_disk_says_so(tmp_path: Path, free: int) -> None:
    with mounted(tmp_path, "tmpfs", "size=1200k") as disk:
        fill(disk)
        os.truncate(disk / "other", os.path.getsize(disk / "other") - free * 1024)
        said = in_process(CREATE, disk / "cache", -1)
        assert said == "made" or ("no room" in said and str(disk) in said)
        (disk / "other").unlink()
        made(disk / "cache")


@pytest.mark.parametrize("left", range(12))
def test_a_cache_that_cannot_be_made_without_inodes_says_so(tmp_path: Path, left: int) -> None:
    with mounted(tmp_path, "tmpfs", "nr_inodes=50") as disk:
        take_inodes(disk)
        others = sorted((disk / "others").iterdir())
        for other in others[:left]:
            other.unlink()
        said = in_process(CREATE, disk / "cache", -1)
        assert said == "made" or ("no room" in said and str(disk) in said)
        for other in others[left:]:
            other.unlink()
        made(disk / "cache")


def publish_many(registry: Registry, *, tiny: bool = False) -> None:
    for number in range(1, 1000 if tiny else 100):
        registry.get_or_prepare(code(number), lambda: b"tiny" if tiny else PIECE)


# --- a cache that is open -----------------------------------------------------------------------


@pytest.mark.parametrize("size", ["4m", "16m"])
def test_publishing_prunes_what_may_go_where_no_inode_is_left(tmp_path: Path, size: str) -> None:
    options = f"nr_inodes=100,size={size}"
    with mounted(tmp_path, "tmpfs", options) as disk, Registry(disk / "cache") as registry:
        with pytest.raises(DiskFull):
            publish_many(registry, tiny=True)
        held = registry.stats().prepared_count
        registry.configure(min_stale_time=NOW)
        for number in range(1000, 1010):
            assert registry.get_or_prepare(code(number), lambda: b"more").size == 4
        if size == "16m":  # in the smaller one the log has taken all the room as well
            assert held * 0.7 < registry.stats().prepared_count <= held + 1
        assert registry.check(checksums=True).ok


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "a file"])
def test_publishing_prunes_what_may_go_where_no_room_is_left(
    tmp_path: Path, kind: str, as_file: bool
) -> None:
    with mounted(tmp_path, kind) as disk, Registry(disk / "cache") as registry:
        for number in range(5):
            registry.get_or_prepare(code(number), lambda: PIECE)
        fill(disk)
        registry.configure(min_stale_time=NOW)
        file = tmp_path / "made"
        for number in range(1000, 1003):
            file.write_bytes(PIECE)
            made = registry.get_or_prepare(code(number), lambda: file if as_file else PIECE)
            assert made.size == len(PIECE)
        assert "disk_full" in {event.reason for event in registry.events()}
        assert registry.check(checksums=True).ok


LIMITED = """
import resource, sys
from datetime import timedelta
from registry import ArtifactId, DiskFull, Registry
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))
code = lambda number: ArtifactId.of(b"%d" % number)
with Registry(sys.argv[1]) as registry:
    try:
        registry.get_or_prepare(code(-1), lambda: bytes(2 << 20))
        print("an artifact over the limit was made")
    except DiskFull:
        pass
    for number in range(60):  # the log passes the limit some times: it is begun anew
        registry.get_or_prepare(code(number), lambda: b"x", label="l" * 1000)
    with Registry(sys.argv[1]) as other:
        assert other.need(code(0)) is not None
        assert other.prune(cache_limit=0, min_stale_time=timedelta(0))
    try:
        for number in range(3000):  # until the database itself is too large
            registry.get_or_prepare(code(number), lambda: b"x", label="l" * 1000)
    except DiskFull:
        print("the database is full")
    assert registry.need(code(0)) is not None
    assert registry.get_or_prepare(code(0), lambda: b"y").size == 1
    with Registry(sys.argv[1]) as other:
        assert other.need(code(0)) is not None
    try:
        registry.prune(cache_limit=0, min_stale_time=timedelta(0))
    except DiskFull:
        print("and nothing can be pruned within that limit")
print("done")
"""


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    assert in_process(LIMITED, tmp_path / "cache").splitlines()[-1] == "done"
    with Registry(tmp_path / "cache") as registry:
        assert registry.check(checksums=True).ok
        registry.prune(cache_limit=0, min_stale_time=NOW)
        assert registry.check(checksums=True).ok


def test_an_artifact_over_the_limit_on_file_sizes_leaves_nothing(tmp_path: Path) -> None:
    script = LIMITED.partition("    for number")[0]
    assert in_process(script, tmp_path / "cache") == ""
    with Registry(tmp_path / "cache") as registry:
        assert registry.check(checksums=True).ok
        assert registry.stats().preparing_count == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_fills_the_disk_of_an_open_cache_is_told_as_such(tmp_path: Path, kind: str) -> None:
    with mounted(tmp_path, kind) as disk, Registry(disk / "cache") as registry:
        registry.get_or_prepare(code(0), lambda: PIECE)
        fill(disk)
        with pytest.raises(DiskFull):
            publish_many(registry)
        assert registry.need(code(0)) is not None
        assert len(registry.prune(cache_limit=0, min_stale_time=NOW)) >= 1
        assert registry.check(checksums=True).ok
