"""A disk that is really full: a small tmpfs, or a directory that can only be read.

Publishing says `DiskFull` and leaves nothing; what makes room works on the full disk all the same.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from processes.traces import assert_clean, code_id
from registry import CacheDirectoryRefused, DiskFull, Registry, RegistryError

NOW = timedelta(0)
KILOBYTES = 3072
PIECE = b"x" * 50_000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A small file system in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={KILOBYTES}k,mode=700", "registry", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs is to be had: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path) -> None:
    """Take what is left of the disk, to the last byte."""
    with open(place / "ballast", "ab", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"x" * 512)


def publish_until_full(registry: Registry) -> int:
    """How many artifacts there are once there is no room for one more."""
    for number in count():
        try:
            registry.get_or_prepare(code_id(number), lambda: PIECE)
        except DiskFull:
            return number
    raise AssertionError("endless")


@pytest.mark.parametrize("to_the_last_byte", [False, True], ids=["no room for one", "no byte"])
def test_pruning_works_on_a_full_disk_thanks_to_the_reserve(
    place: Path, to_the_last_byte: bool
) -> None:
    with Registry(place / "cache") as registry:
        held = publish_until_full(registry)
        assert held > 10
        assert registry.get(code_id(held)) is None  # its claim was given back
        if to_the_last_byte:
            fill(place)
            with pytest.raises(DiskFull):
                registry.get_or_prepare(code_id(held), lambda: b"one byte more" * 1000)
        for number in range(held):
            assert registry.get(code_id(number)) is not None
        gone = registry.prune(cache_limit=held * len(PIECE) // 2, min_stale_time=NOW)
        assert len(gone) == (held + 1) // 2
        assert registry.get_or_prepare(code_id(held), lambda: PIECE).size == len(PIECE)
        assert (place / "cache" / "reserve").stat().st_size > 0
    (place / "ballast").unlink(missing_ok=True)
    assert_clean(place / "cache")


@pytest.mark.parametrize("verb", ["remove", "need", "find damage"])
def test_what_needs_hardly_any_room_works_on_a_full_disk(place: Path, verb: str) -> None:
    with Registry(place / "cache") as registry:
        publish_until_full(registry)
        fill(place)
        if verb == "remove":
            assert registry.remove(code_id(0))
        elif verb == "need":
            assert registry.need(code_id(1)) is not None
        else:
            path = registry.get(code_id(2)).path
            path.chmod(0o600)
            path.write_bytes(b"?")
            assert registry.need(code_id(2)) is None
    (place / "ballast").unlink()
    assert_clean(place / "cache")


def test_a_cache_on_a_full_disk_can_be_opened_to_prune_it(place: Path) -> None:
    with Registry(place / "cache") as registry:
        held = publish_until_full(registry)
    fill(place)
    with suppress(RegistryError):
        Registry(place / "another").close()
    with Registry(place / "cache") as registry:
        assert len(registry.prune(cache_limit=0, min_stale_time=NOW)) == held
    assert_clean(place / "cache")
    Registry(place / "another").close()
    assert_clean(place / "another")


def test_a_file_system_that_can_only_be_read_is_refused(place: Path) -> None:
    with Registry(place / "cache") as registry:
        registry.get_or_prepare(code_id(1), lambda: PIECE)
    remount = ["mount", "-o", "remount,{}", "registry", str(place)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    for name in ("cache", "another"):
        with pytest.raises(CacheDirectoryRefused):
            Registry(place / name)
    subprocess.run([word.format("rw") for word in remount], check=True)
    with Registry(place / "cache") as registry:
        assert registry.need(code_id(1)) is not None
    assert_clean(place / "cache")
