"""Hostile surroundings: what somebody else wrote into the database, or planted in the folders.

One bad row, or one bad file, makes nothing else unusable: lists leave it out, `check` reports it,
and `check(repair=True)` removes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.closed import tree
from support.making import claimed, failed, prepared
from support.paths import path_of
from support.tables import change, connected, rows
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import (
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    ClaimLost,
    DatabaseDamaged,
    InvalidId,
    InvalidSetting,
    Registry,
    RegistryError,
    State,
    WaitTimeout,
)
from registry import prepared as prepared_by

NOW = timedelta(0)
HUGE = 2**63 - 1


# --- rows ---------------------------------------------------------------------------------------

NAMELESS: dict[str, Any] = {
    "a NUL after the hash": lambda code: code + "\0",
    "more after a NUL": lambda code: code + "\0" + "x" * 1000,
    "no hash": lambda code: "../" + code[3:],
    "a short one": lambda code: code[:-1],
    "none": lambda code: "",
    "upper case": lambda code: code.upper(),
    "10 MB": lambda code: code + "\0" + "y" * 10_000_000,
}
STATES: dict[str, Callable[[Registry, ArtifactId], object]] = {
    "prepared": prepared,
    "failed": failed,
}
VERBS: dict[str, Callable[[Registry, ArtifactId], object]] = {
    "get": Registry.get,
    "need": Registry.need,
    "artifacts": lambda registry, _: list(registry.artifacts()),
    "find": lambda registry, good: registry.find(good.code_hash[:2]),
    "hosts": lambda registry, _: registry.hosts(),
    "stats": lambda registry, _: registry.stats(),
    "diagnose": lambda registry, _: registry.diagnose(),
    "measure": lambda registry, _: registry.measure(),
    "check": lambda registry, _: registry.check(checksums=True),
    "maintain": lambda registry, _: registry.maintain(),
    "prune, dry": lambda registry, _: registry.prune(cache_limit=0, dry_run=True),
    "history": Registry.history,
    "prune": lambda registry, _: registry.prune(cache_limit=0, min_stale_time=NOW),
    "repair": lambda registry, _: registry.check(repair=True),
}


@pytest.mark.parametrize("column", ["code_hash", "prep_hash"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("made", NAMELESS.values(), ids=NAMELESS)
def test_a_row_that_names_nothing_is_left_out_reported_and_removed(
    registry: Registry,
    new_id: Callable[[], ArtifactId],
    cache: Path,
    state: str,
    column: str,
    made: Callable[[str], str],
) -> None:
    good, bad = new_id(), new_id()
    prepared(registry, good)
    STATES[state](registry, bad)
    change(cache, bad, **{column: made(getattr(bad, column))})

    assert [artifact.id for artifact in registry.artifacts()] == [good]
    assert registry.find(good.code_hash[:10]) == good
    kinds = [problem.kind for problem in registry.check(checksums=True).problems]
    assert "alien_row" in kinds
    registry.check(repair=True)
    assert registry.check(checksums=True).ok
    assert [row["code_hash"] for row in rows(cache)] == [good.code_hash]
    assert len(list((cache / "artifacts").iterdir())) == 1


@pytest.mark.parametrize("where", ["its file is there", "its file is gone"])
def test_no_verb_minds_a_row_that_names_nothing(
    registry: Registry, new_id: Callable[[], ArtifactId], cache: Path, where: str
) -> None:
    for name, verb in VERBS.items():
        good, bad = new_id(), new_id()
        path = path_of(prepared(registry, bad))
        change(cache, bad, code_hash=good.code_hash + "\0")
        prepared(registry, good)
        if where == "its file is gone":
            path.unlink()
        verb(registry, good)
        registry.check(repair=True)
        assert registry.check(checksums=True).ok, name
        assert all(len(row["code_hash"]) == 64 for row in rows(cache)), name


def test_an_event_that_names_nothing_is_left_out(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    prepared(registry, id)
    before = list(registry.events())
    with connected(cache) as connection:
        connection.execute(
            "INSERT INTO history (at, event, code_hash, prep_hash) VALUES (1, 'claimed', ?, ?)",
            (id.code_hash.upper(), id.prep_hash),
        )
    assert list(registry.events()) == before


def test_a_claim_whose_row_was_renamed_is_lost(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    claim = claimed(registry, id)
    change(cache, id, prep_hash=id.prep_hash + "\0")
    assert registry.hosts()[0].prepares == ()
    with pytest.raises(ClaimLost):
        claim.publish(b"artifact")
    registry.check(repair=True)
    assert rows(cache) == []


NUMBERS: list[dict[str, Any]] = [
    {"last_time_needed": HUGE},
    {"last_time_needed": -HUGE - 1},
    {"created_at": HUGE},
    {"claimed_at": -HUGE},
    {"prepare_seconds": float("inf")},
    {"prepare_seconds": -1e308},
    {"num_failures": HUGE},
    {"size": HUGE - 2**20},  # more, and the counters overflow: no statement gets it in
    {"size": -1},
    {"last_time_failed": HUGE, "error": "e", "error_kind": "\0\n\x1b[2J"},
    {"retry_at": HUGE},
    {"deadline": HUGE},
    {"label": "l\0\n\x1b]0;owned\a" * 100_000},
    {"checksum": "\0"},
    {"state": "nonsense"},
]


@pytest.mark.parametrize("values", NUMBERS, ids=lambda values: "-".join(map(str, values)))
def test_no_value_in_a_row_makes_a_verb_fall_over(
    registry: Registry, new_id: Callable[[], ArtifactId], cache: Path, values: dict[str, Any]
) -> None:
    for verb in VERBS.values():
        bad = new_id()
        prepared(registry, bad)
        change(cache, bad, **values)
        with suppress(DatabaseDamaged):
            verb(registry, bad)
        registry.check(repair=True)
        registry.prune(cache_limit=0, min_stale_time=NOW)
        assert prepared(registry, new_id()).state is State.PREPARED


def test_text_that_is_no_utf8_is_shown_as_far_as_it_can_be(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    prepared(registry, id)
    with connected(cache) as connection:
        connection.execute("UPDATE artifact SET label = CAST(x'61ff62' AS TEXT)")
    assert [artifact.label for artifact in registry.artifacts()] == ["a\ufffdb"]
    assert registry.get_or_prepare(id, lambda: b"never").size == 1024


def test_a_path_that_is_no_utf8_ends_nothing_but_its_own_artifact(
    registry: Registry, new_id: Callable[[], ArtifactId], cache: Path
) -> None:
    good, bad = new_id(), new_id()
    prepared(registry, good)
    prepared(registry, bad)
    with connected(cache) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(
            "UPDATE artifact SET path = CAST(x'2fff' AS TEXT) WHERE code_hash = ?", (bad.code_hash,)
        )
    assert registry.need(bad) is None
    assert registry.need(good) is not None
    assert registry.remove(bad)
    registry.check(repair=True)
    assert registry.check(checksums=True).ok


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE artifact",
        "DROP TABLE usage",
        "DELETE FROM usage",
        "DELETE FROM maintenance",
        "DELETE FROM cache",
        "DROP TABLE history",
        "ALTER TABLE artifact RENAME COLUMN label TO called",
        "UPDATE usage SET prepared_bytes = 9223372036854775807",
        "UPDATE maintenance SET last_done = -9223372036854775808",
        "INSERT INTO setting VALUES ('cache_limit', NULL), ('min_stale_time', -5)",
        "INSERT INTO setting VALUES ('min_stale_time', 9223372036854775807)",
        "INSERT INTO setting VALUES ('max_retries', -9223372036854775808)",
        "INSERT INTO host VALUES ('../../etc', -1, 'h', 'c', 9223372036854775807, '')",
        "CREATE TRIGGER theirs BEFORE INSERT ON artifact BEGIN SELECT RAISE(ABORT, 'no'); END",
    ],
)
def test_a_database_that_somebody_changed_is_refused_in_our_words_or_used(
    id: ArtifactId, cache: Path, sql: str
) -> None:
    registry = Registry(cache)
    path = path_of(prepared(registry, id))
    with connected(cache) as connection:
        connection.execute("PRAGMA legacy_alter_table = 1")
        connection.execute(sql)
    for name, verb in {**VERBS, "close": lambda registry, _: registry.close()}.items():
        with suppress(DatabaseDamaged):
            verb(registry, id)
        if name == "history":  # nothing before it may delete
            assert path.exists()


# --- what is planted ----------------------------------------------------------------------------


def link_to_a_file(place: Path, mine: Path) -> None:
    place.symlink_to(mine)


def link_to_nowhere(place: Path, mine: Path) -> None:
    place.symlink_to(mine.with_name("nowhere"))


def hard_link(place: Path, mine: Path) -> None:
    place.hardlink_to(mine)


def fifo(place: Path, mine: Path) -> None:
    os.mkfifo(place)


def folder(place: Path, mine: Path) -> None:
    place.mkdir()


def others_file(place: Path, mine: Path) -> None:
    place.write_bytes(b"theirs")
    if os.geteuid() == 0:
        os.chown(place, 12345, 12345)


PLANTS = [link_to_a_file, link_to_nowhere, hard_link, fifo, folder, others_file]


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's that nothing may touch, wherever something points to it."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    yield mine
    assert mine.read_bytes() == b"mine"
    assert not mine.with_name("nowhere").exists()


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("ending", ["", ".tmp"])
def test_what_is_planted_where_an_artifact_should_be_is_not_written_through(
    registry: Registry, id: ArtifactId, cache: Path, mine: Path, plant: Any, ending: str
) -> None:
    claim = claimed(registry, id)
    place = cache / "artifacts" / f"{rows(cache)[0]['path']}{ending}"
    plant(place, mine)
    try:
        artifact = claim.publish(b"artifact")
    except CacheDirectoryRefused:
        assert plant is folder
        claim.release()
    else:
        assert path_of(artifact).read_bytes() == b"artifact"
        assert not path_of(artifact).is_symlink()
    assert registry.get_or_prepare(id, lambda: b"artifact").size == 8
    registry.check(repair=True)
    assert registry.check(checksums=True).ok


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_where_a_lock_should_be_is_a_dead_host(
    registry: Registry, id: ArtifactId, cache: Path, mine: Path, plant: Any
) -> None:
    claimed(registry, id)
    change(cache, id, host_id="d" * 32)
    plant(cache / "hosts" / f"{'d' * 32}.lock", mine)
    assert registry.get_or_prepare(id, lambda: b"artifact").size == 8
    registry.check(repair=True)
    assert registry.need(id) is not None


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["open.lock", "cache.id", "reserve", "registry.db"])
def test_what_is_planted_where_a_file_of_ours_should_be_is_refused_or_replaced(
    cache: Path, mine: Path, plant: Any, name: str
) -> None:
    (cache / name).unlink(missing_ok=True)
    plant(cache / name, mine)
    with suppress(CacheDirectoryRefused, DatabaseDamaged), Registry(cache) as registry:
        registry.prune()
        registry.check()


def test_a_lock_that_another_program_holds_is_a_living_host(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    """It can keep an artifact from being prepared until the deadline, and no longer."""
    claim = claimed(registry, id)
    change(cache, id, host_id="d" * 32)
    with open(cache / "hosts" / f"{'d' * 32}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WaitTimeout):
            registry.get_or_prepare(id, lambda: b"never", timeout=NOW)
        change(cache, id, deadline=0)
        assert registry.get_or_prepare(id, lambda: b"artifact").size == 8
    with pytest.raises(ClaimLost):
        claim.publish(b"late")


# --- names --------------------------------------------------------------------------------------

NAMES = ["", "a\0b", "a\nb", "x" * 10_000_000, "\ud800", "../../etc/none", "\x1b[2J", "💣" * 1000]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_any_name_is_taken_or_refused_in_our_words(
    registry: Registry,
    id: ArtifactId,
    cache: Path,
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a file that is published is moved: none of this machine's
    for refused in (
        lambda: ArtifactId(name, id.prep_hash),
        lambda: ArtifactId.parse(name),
        lambda: registry.find(name),
        lambda: registry.configure(**{name: 1}),
    ):
        with pytest.raises((InvalidId, InvalidSetting)) as refusal:
            refused()
        assert len(str(refusal.value)) < 1000
    for taken in (
        lambda: ArtifactId.of(b"code", {"name": name}),
        lambda: registry.get_or_prepare(id, lambda: b"artifact", label=name),
        lambda: claimed(registry, ArtifactId.of(b"1")).publish(Path(name)),
        lambda: claimed(registry, ArtifactId.of(b"2")).fail(name, kind=name),
    ):
        with suppress(RegistryError):
            taken()
    registry.check(repair=True)
    assert registry.check(checksums=True).ok
    with suppress(CacheDirectoryRefused), Registry(tmp_path / name[:200] if name else "") as opened:
        assert opened.check().ok


def test_an_empty_name_is_not_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    build = prepared_by(version=1, cache="", name="build")(lambda: b"artifact")
    for use in (lambda: Registry(""), lambda: AsyncRegistry(""), build):
        with pytest.raises(CacheDirectoryRefused, match="empty name"):
            use()
    assert tree(tmp_path) == before
