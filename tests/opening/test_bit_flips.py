"""Bits flip in the database and in artifacts: every reader gets the right bytes, or is told.

A flipped bit in an artifact is a miss. One in the database may take a row away, or show in our own
words that the database is damaged; it never gives anybody other bytes than were published.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tables import connected
from support.templates import made_cache  # noqa: F401

from registry import ArtifactId, Registry, RegistryError
from registry.recovery import newest, recover

NUMBERS = range(12)
FLIPS = 90


def of(number: int) -> ArtifactId:
    return ArtifactId.of(b"code %d" % number)


def content(number: int) -> bytes:
    return Random(number).randbytes(300)


@pytest.fixture(scope="module")
def full(made_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A closed cache with some artifacts, all of it in the database file."""
    cache = shutil.copytree(made_cache, tmp_path_factory.mktemp("full") / "cache")
    with Registry(cache) as registry:
        for number in NUMBERS:
            registry.get_or_prepare(of(number), lambda n=number: content(n), label=f"{number}")
    with connected(cache) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return cache


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.chmod(0o600)
    path.write_bytes(data)


def read_right(registry: Registry) -> int:
    """Read every artifact in every way; how many are there."""
    found = 0
    for number in NUMBERS:
        with suppress(RegistryError):
            registry.get(of(number))
        with suppress(RegistryError), registry.open_file(of(number)) as file:
            assert file.read() == content(number)
            found += 1
    with suppress(RegistryError):
        list(registry.artifacts())
    for read in (registry.stats, registry.hosts, registry.check):
        with suppress(RegistryError):
            read()
    return found


def test_a_flipped_bit_in_an_artifact_is_a_miss_and_only_that(full: Path, tmp_path: Path) -> None:
    chance = Random(7)
    for turn in range(FLIPS // 6):
        cache = shutil.copytree(full, tmp_path / str(turn))
        victim = chance.choice(sorted((cache / "artifacts").iterdir()))
        flip(victim, chance.randrange(300 * 8))
        with Registry(cache) as registry:
            assert read_right(registry) == len(NUMBERS) - 1
            for number in NUMBERS:
                registry.get_or_prepare(of(number), lambda n=number: content(n))
            assert read_right(registry) == len(NUMBERS)
            assert registry.check(checksums=True).ok
        shutil.rmtree(cache)


def test_a_flipped_bit_in_the_database_never_gives_wrong_bytes(full: Path, tmp_path: Path) -> None:
    chance, found = Random(8), 0
    for turn in range(FLIPS):
        cache = shutil.copytree(full, tmp_path / str(turn))
        database = cache / "registry.db"
        flip(database, chance.randrange(database.stat().st_size * 8))
        with suppress(RegistryError), Registry(cache) as registry:
            found += read_right(registry)
            with suppress(RegistryError):
                registry.prune(cache_limit=1000, min_stale_time=timedelta(0))
            with suppress(RegistryError):
                registry.get_or_prepare(of(99), lambda: content(99))
        shutil.rmtree(cache)
    assert found > FLIPS  # most flips hurt nobody, else nothing was tried


def test_noise_over_pages_of_the_database_never_gives_wrong_bytes(
    full: Path, tmp_path: Path
) -> None:
    """And what recovery brings back is right, too."""
    chance, recovered = Random(9), 0
    pages = (full / "registry.db").stat().st_size // 4096
    for page in range(pages):
        cache = shutil.copytree(full, tmp_path / str(page))
        with open(cache / "registry.db", "r+b") as file:
            file.seek(page * 4096 + chance.randrange(4000))
            file.write(chance.randbytes(96))
        with suppress(RegistryError), Registry(cache) as registry:
            read_right(registry)
        if not (cache / "damaged").exists():
            place = cache / "damaged" / "by hand"
            place.mkdir(parents=True)
            os.rename(cache / "registry.db", place / "registry.db")
            (cache / "cache.id").unlink()
        with Registry(cache) as registry:
            recovered += recover(registry, newest(cache)).recovered
            read_right(registry)
        shutil.rmtree(cache)
    assert recovered > len(NUMBERS) * pages // 2


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=5000), name=st.sampled_from(["registry.db", "registry.db-wal"]))
def test_any_bytes_may_take_the_place_of_the_database(
    tmp_path_factory: pytest.TempPathFactory, full: Path, content: bytes, name: str
) -> None:
    cache = shutil.copytree(full, tmp_path_factory.mktemp("any") / "cache")
    (cache / name).write_bytes(content)
    (cache / name).chmod(0o600)
    with suppress(RegistryError), Registry(cache) as registry:
        read_right(registry)
        registry.get_or_prepare(of(99), lambda: b"artifact")
    shutil.rmtree(cache)
