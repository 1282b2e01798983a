"""Reconcile rows and files: what is swept, what a check finds, what a repair mends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support.between import Perform, between, name_of
from support.making import claimed, prepared
from support.paths import SPOILED, path_of
from support.tables import DEAD, change, connected, files, rows
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import ArtifactId, DatabaseDamaged, Registry, State
from registry.effects import Effect, ListNames, Unlink

GARBAGE = "9" * 128 + ".pvf"

# --- sweeping -----------------------------------------------------------------------------------


def test_files_that_no_row_refers_to_are_swept_and_no_others(
    registry: Registry, other: Registry, new_id: Callable[[], ArtifactId], cache: Path
) -> None:
    folder = cache / "artifacts"
    kept = path_of(prepared(registry, new_id())).name
    claim = claimed(other, new_id())
    (live,) = (r["path"] for r in rows(cache) if r["state"] == "preparing")
    stay = [live, f"{live}.tmp", "README", "x.pvf", "A" * 128 + ".pvf", GARBAGE[1:], f"0{GARBAGE}"]
    stay += [f"{GARBAGE}.tmp.tmp", f"{GARBAGE}~", f".{GARBAGE}", f"{GARBAGE}.pvf", f"{GARBAGE}\n"]
    go = [GARBAGE, "8" * 128 + ".pvf.tmp", f"{kept}.tmp"]
    for name in (*stay, *go):
        (folder / name).write_bytes(b"?")
    (folder / ("7" * 128 + ".pvf")).mkdir()
    (folder / ("6" * 128 + ".pvf")).symlink_to(folder / kept)

    report = registry.check(repair=True)

    assert {p.subject for p in report.problems} == {*go, "6" * 128 + ".pvf"}
    assert {p.name for p in folder.iterdir()} == {*stay, kept, "7" * 128 + ".pvf"}
    assert claim.publish(b"artifact").state is State.PREPARED


def test_what_is_published_while_a_sweep_runs_is_never_swept(
    registry: Registry, other: Registry, new_id: Callable[[], ArtifactId], cache: Path
) -> None:
    """At whichever effect of it: the folder is listed first, and the rows are read after."""
    prepared(other, new_id())
    (cache / "artifacts" / GARBAGE).write_bytes(b"?")

    def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        if isinstance(effect, ListNames | Unlink) or name_of(effect) == "paths page":
            prepared(other, new_id())
            answer = perform(effect)
            prepared(other, new_id())
            return answer
        return perform(effect)

    with between(registry, act):
        registry.check(repair=True)
    assert len(rows(cache)) > 5
    assert set(files(cache)) == {r["path"] for r in rows(cache)}
    assert registry.check(checksums=True).ok


def test_nothing_is_swept_against_a_database_that_was_replaced(
    registry: Registry, id: ArtifactId, cache: Path
) -> None:
    """The files may belong to the one that was there before."""
    prepared(registry, id)
    (cache / "artifacts" / GARBAGE).write_bytes(b"?")
    (cache / "cache.id").write_text("another\n")
    assert [p.kind for p in registry.check().problems] == ["identity", "orphan_file"]
    with pytest.raises(DatabaseDamaged, match="another"):
        registry.check(repair=True)
    assert (cache / "artifacts" / GARBAGE).exists()


# --- checking -----------------------------------------------------------------------------------

Spoil: TypeAlias = Callable[[Registry, ArtifactId, Path], object]


def execute(statement: str) -> Spoil:
    def run(_registry: Registry, _id: ArtifactId, cache: Path) -> None:
        with connected(cache) as connection:
            connection.execute(statement)

    return run


def a_file_that_is(spoiled: Callable[[Path], object]) -> Spoil:
    return lambda registry, named, _: spoiled(path_of(registry.get(named)))


def a_new(place: str) -> Spoil:
    return lambda _registry, _id, cache: (cache / place).write_bytes(b"?")


CLAIM = f"""\
INSERT INTO artifact (code_hash, prep_hash, state, path, token, host_id, claimed_at, deadline)
VALUES ('{"a" * 64}', '{"b" * 64}', 'preparing', '{GARBAGE}', 'token', '{DEAD}', 1, 2)"""
HOST = f"INSERT INTO host VALUES ('{DEAD}', 1, 'here', 'a command', 1, '0.1.0')"
USAGE = "UPDATE usage SET prepared_count = 7, prepared_bytes = 0"

# What went wrong, how, and the kinds of problem that a check finds.
WRONG: list[tuple[str, Spoil, list[str]]] = [
    ("a file that is missing", a_file_that_is(SPOILED["missing"]), ["missing_file"]),
    *(
        (f"a file that is {how}", a_file_that_is(spoiled), ["damaged_file"])
        for how, spoiled in SPOILED.items()
        if how != "missing"
    ),
    (
        "a hostile path",
        lambda _, named, cache: change(cache, named, path="../x"),
        ["integrity", "hostile_file", "orphan_file"],
    ),
    ("a file of nobody", a_new(f"artifacts/{GARBAGE}"), ["orphan_file"]),
    ("a temporary file of nobody", a_new(f"artifacts/{GARBAGE}.tmp"), ["orphan_file"]),
    ("a wrong sum", execute(USAGE), ["usage"]),
    ("a dead host", execute(HOST), ["dead_host"]),
    ("a claim of a dead host", execute(CLAIM), ["dead_host", "abandoned_claim"]),
    ("a lock of nobody", a_new(f"hosts/{'1' * 32}.lock"), ["orphan_lock"]),
]


@pytest.mark.parametrize(("spoil", "kinds"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_check_finds_what_is_wrong_and_a_repair_mends_it(
    registry: Registry, id: ArtifactId, cache: Path, spoil: Spoil, kinds: list[str]
) -> None:
    prepared(registry, id)
    assert registry.check(checksums=True).ok
    spoil(registry, id, cache)

    found = registry.check(checksums=True)
    assert (found.ok, found.repaired) == (False, False)
    assert [problem.kind for problem in found.problems] == kinds
    assert all(problem.subject and problem.message for problem in found.problems)
    assert registry.check(checksums=True) == found  # looking changes nothing

    mended = registry.check(repair=True, checksums=True)
    assert mended.problems == found.problems
    assert mended.repaired
    assert registry.check(checksums=True).ok
    assert registry.get_or_prepare(id, lambda: b"artifact").state is State.PREPARED


def test_a_check_finds_all_that_is_wrong_at_once(
    registry: Registry, new_id: Callable[[], ArtifactId], cache: Path
) -> None:
    kinds: list[str] = []
    for _, spoil, wrong in WRONG:
        one = new_id()
        prepared(registry, one)
        spoil(registry, one, cache)
        kinds += wrong
    found = [problem.kind for problem in registry.check(checksums=True).problems]
    assert set(found) == set(kinds)
    assert found.count("damaged_file") == kinds.count("damaged_file")
    registry.check(repair=True, checksums=True)
    assert registry.check(checksums=True).ok


def test_a_living_claim_is_no_problem(
    registry: Registry, other: Registry, id: ArtifactId, cache: Path
) -> None:
    claim = claimed(other, id)
    change(cache, id, deadline=0)
    assert registry.check(repair=True).ok
    assert claim.publish(b"artifact").state is State.PREPARED


def test_a_check_reads_no_file_unless_it_is_asked_to(registry: Registry, id: ArtifactId) -> None:
    prepared(registry, id)
    SPOILED["a flipped bit"](path_of(registry.get(id)))
    assert registry.check().ok
    assert not registry.check(checksums=True).ok
