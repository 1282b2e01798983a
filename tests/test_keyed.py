"""Get and put by key: what is stored, what a flight is, and that no error reaches a compilation."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from support.disks import fill, mounted

from registry import Registry, State, process_handles
from registry import keyed as module
from registry.keyed import Keyed


@pytest.fixture(autouse=True)
def handles_closed() -> Iterator[None]:
    yield
    module._paused.clear()
    module._warned.clear()
    for key in list(process_handles._handles):
        process_handles._handles.pop(key).close()


@pytest.fixture
def keyed(cache: Path) -> Keyed:
    return Keyed("test", cache)


def states(cache: Path) -> list[State]:
    with Registry(cache) as registry:
        return [artifact.state for artifact in registry.artifacts()]


def test_what_was_put_is_got_by_str_and_by_bytes(keyed: Keyed) -> None:
    assert keyed.put("key", b"of a str")
    assert keyed.put(b"key", b"of bytes")

    assert (keyed.get("key"), keyed.get(b"key")) == (b"of a str", b"of bytes")
    assert keyed.get("ke") is None
    assert (keyed.stats.hits, keyed.stats.misses, keyed.stats.puts) == (2, 1, 2)


def test_any_str_is_a_key(keyed: Keyed) -> None:
    for key in ["", "\udcff", "x" * 100_000, "a\nb\0"]:
        assert keyed.put(key, key.encode("utf-8", "replace") or b"-"), key[:5]
        assert keyed.get(key) == (key.encode("utf-8", "replace") or b"-")


def test_kinds_and_groups_are_apart(cache: Path, keyed: Keyed) -> None:
    keyed.put("key", b"1")
    keyed.put("key", b"2", group="g")
    Keyed("other", cache).put("key", b"3")

    assert keyed.forget("g") == 1

    assert keyed.get("key", group="g") is None
    assert (keyed.get("key"), Keyed("other", cache).get("key")) == (b"1", b"3")
    assert keyed.remove("key")
    assert not keyed.remove("key")
    assert keyed.get("key") is None


def test_the_first_put_stays(keyed: Keyed) -> None:
    assert keyed.put("key", b"1")
    assert not keyed.put("key", b"2")
    assert keyed.get("key") == b"1"


def test_a_miss_outside_of_a_flight_claims_nothing(cache: Path, keyed: Keyed) -> None:
    assert keyed.get("key") is None
    assert states(cache) == []


def test_leaving_a_flight_releases_however_it_is_left(cache: Path, keyed: Keyed) -> None:
    def compiles() -> None:
        with keyed.flight():
            assert keyed.get("key") is None
            assert states(cache) == [State.PREPARING]
            raise KeyError

    with pytest.raises(KeyError):
        compiles()

    assert states(cache) == []
    assert keyed.put("key", b"code")


def test_a_flight_of_another_kind_is_no_flight_of_this(cache: Path, keyed: Keyed) -> None:
    with Keyed("other", cache).flight():
        assert keyed.get("key") is None
        assert states(cache) == []


def test_a_second_miss_in_a_flight_is_a_plain_miss(keyed: Keyed) -> None:
    with keyed.flight():
        assert keyed.get("key") is None
        assert keyed.get("key") is None
        with keyed.flight():
            assert keyed.get("key") is None
        assert keyed.put("key", b"code")
        assert keyed.get("key") == b"code"
    assert (keyed.stats.claims, keyed.stats.waits) == (1, 0)


def test_an_object_may_be_a_flight_until_nobody_holds_it(cache: Path, keyed: Keyed) -> None:
    flight = keyed.flight()
    assert flight.get("key") is None
    assert states(cache) == [State.PREPARING]

    del flight
    gc.collect()

    joined = Keyed("test", cache)
    with joined.flight():
        joined.get("key")  # waits until the other thread has released it
        joined.put("key", b"code")
    assert keyed.get("key") == b"code"


def test_a_closed_flight_claims_nothing(cache: Path, keyed: Keyed) -> None:
    flight = keyed.flight()
    flight.close()
    assert flight.get("key") is None
    assert states(cache) == []
    assert flight.put("key", b"code")


def test_threads_compile_each_key_once(keyed: Keyed) -> None:
    compiled: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for key in range(10):
            with keyed.flight():
                if keyed.get(str(key)) is None:
                    compiled.append(key)
                    assert keyed.put(str(key), b"%d" % key)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(compiled) == list(range(10))


def test_a_put_from_another_thread_ends_the_claim(keyed: Keyed) -> None:
    stored: list[bool] = []
    with keyed.flight():
        assert keyed.get("key") is None
        thread = threading.Thread(target=lambda: stored.append(keyed.put("key", b"code")))
        thread.start()
        thread.join()
    assert (stored, keyed.get("key"), keyed.stats.fenced) == ([True], b"code", 0)


def only_file(cache: Path) -> Path:
    (file,) = (cache / "artifacts").iterdir()
    return file


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda it: it.write_bytes(b"half")], ids=["flip", "gone", "cut"]
)
def test_a_damaged_entry_is_a_miss_and_heals(
    cache: Path, keyed: Keyed, damage: Callable[[Path], object]
) -> None:
    keyed.put("key", b"code of some length")
    damage(only_file(cache))

    with keyed.flight():
        assert keyed.get("key") is None
        assert keyed.put("key", b"compiled again")

    assert keyed.get("key") == b"compiled again"
    assert keyed.stats.errors == 0


def test_nothing_is_stored_for_no_bytes_and_the_claim_is_released(
    cache: Path, keyed: Keyed, caplog: pytest.LogCaptureFixture
) -> None:
    with keyed.flight():
        assert keyed.get("key") is None
        assert not keyed.put("key", b"")
        assert states(cache) == []
    assert keyed.put("key", b"code")  # an error of one artifact stops no other
    assert len(caplog.records) == 1


def a_file(cache: Path) -> None:
    cache.write_bytes(b"")


def open_to_all(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)


def newer(cache: Path) -> None:
    Registry(cache).close()
    with sqlite3.connect(cache / "registry.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.execute("UPDATE cache SET oldest_version = '999.0'")


def foreign(cache: Path) -> None:
    cache.mkdir(mode=0o700)
    with sqlite3.connect(cache / "registry.db") as database:
        database.execute("CREATE TABLE t (a)")


@pytest.mark.parametrize("spoil", [a_file, open_to_all, newer, foreign])
def test_a_cache_that_cannot_be_used_is_a_miss_with_one_warning(
    cache: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(cache)
    keyed = Keyed("test", cache)

    for _ in range(3):
        with keyed.flight():
            assert keyed.get("key") is None
            assert not keyed.put("key", b"code")
        assert not keyed.remove("key")
        assert keyed.forget() == 0

    (record,) = [it for it in caplog.records if it.levelno >= logging.WARNING]
    assert record.getMessage().startswith("test compiles without the cache: ")
    assert record.__dict__["event"] == "keyed_failed"
    assert keyed.stats.errors == 1


def test_a_cache_that_is_gone_is_a_miss_with_one_warning(
    cache: Path, keyed: Keyed, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    keyed.put("key", b"code")
    cache.rename(tmp_path / "elsewhere")

    with keyed.flight():
        assert keyed.get("key") is None
        assert not keyed.put("key", b"code")

    assert len(caplog.records) == 1


def test_on_a_full_disk_it_compiles_and_stores_again_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted(tmp_path, "tmpfs") as disk:
        keyed = Keyed("test", disk / "cache")
        assert keyed.put("small", b"code")
        fill(disk)

        for _ in range(2):
            with keyed.flight():
                assert keyed.get("big") is None
                assert not keyed.put("big", bytes(1 << 20))
        assert keyed.get("small") == b"code"
        assert len([it for it in caplog.records if it.levelno >= logging.WARNING]) == 1

        (disk / "other").unlink()
        assert keyed.put("big", bytes(1 << 20))
        process_handles._handles.popitem()[1].close()


@pytest.mark.slow
def test_a_locked_cache_delays_once(
    cache: Path, keyed: Keyed, caplog: pytest.LogCaptureFixture
) -> None:
    keyed.put("key", b"code")
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(20):  # were each to wait for the lock, it would take the time-out
            with keyed.flight():
                assert keyed.get("another") is None
                assert not keyed.put("another", b"code")
    assert keyed.stats.errors == 1
    assert len([it for it in caplog.records if it.levelno >= logging.WARNING]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_cache_that_cannot_be_written_is_a_miss_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted(tmp_path, "tmpfs") as disk:
        Registry(disk / "cache").close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        keyed = Keyed("test", disk / "cache")

        for _ in range(2):
            with keyed.flight():
                assert keyed.get("key") is None
                assert not keyed.put("key", b"code")

        assert len([it for it in caplog.records if it.levelno >= logging.WARNING]) == 1


def test_the_cache_is_that_of_the_environment(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyed = Keyed("test")
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))
    assert keyed.put("key", b"1")
    monkeypatch.setenv("REGISTRY_CACHE", str(tmp_path / "second"))
    assert keyed.get("key") is None


def test_what_is_no_key_is_a_type_error(keyed: Keyed) -> None:
    for call in (keyed.get, keyed.remove, keyed.forget):
        with pytest.raises(TypeError, match="str or bytes"):
            call(1)
    with pytest.raises(TypeError, match="kind"):
        Keyed(b"test")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Keyed("test", patience=10)  # type: ignore[arg-type]


def test_patience_is_a_span() -> None:
    assert Keyed("test", patience=timedelta(seconds=5)).stats.waits == 0
