"""A damaged database is set aside, replaced by a new one, and what can be read comes back."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.closed import tree
from support.pages import PAGE, write_over
from support.paths import path_of, spoil
from support.tables import rows
from support.templates import copied_cache, made_cache  # noqa: F401

from registry import Artifact, ArtifactId, Claim, Registry
from registry.recovery import Recovery, newest, recover

HEADER = 100


def content(number: int) -> bytes:
    return b"artifact %d" % number * 20


def of(number: int) -> ArtifactId:
    return ArtifactId.of(b"code %d" % number)


def filled(cache: Path, number: int) -> list[Artifact]:
    """Prepare artifacts, and see that all of them are in the database, none in its -wal file."""
    with Registry(cache) as registry:
        made = [
            registry.get_or_prepare(of(n), lambda n=n: content(n), label=f"the {n}.")
            for n in range(number)
        ]
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return made


def pages_of_artifacts(cache: Path) -> list[int]:
    """The pages that hold rows of artifacts, by a mark that only they have."""
    content = (cache / "registry.db").read_bytes()
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    leaf = re.compile(rb"\x0d.*[0-9a-f]{128}\.pvf", re.DOTALL)
    return [number for number, page in enumerate(pages) if leaf.match(page)]


def spoil_schema(cache: Path) -> None:
    """So that whoever opens it sets it aside."""
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        connection.execute("DELETE FROM alembic_version")
        connection.commit()


@pytest.fixture(scope="module")
def full_cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Artifact]]:
    """A cache with many artifacts, whose database will be set aside."""
    cache = tmp_path_factory.mktemp("full") / "cache"
    made = filled(cache, 40)
    spoil_schema(cache)
    return cache, made


@pytest.mark.parametrize("broken", ["none", "first", "middle", "last", "two", "half"])
def test_what_is_on_the_other_pages_comes_back(
    full_cache: tuple[Path, list[Artifact]], tmp_path: Path, broken: str
) -> None:
    cache, made = shutil.copytree(full_cache[0], tmp_path / "cache"), full_cache[1]
    pages = pages_of_artifacts(cache)
    assert len(pages) > 3
    middle = len(pages) // 2
    which = {
        "none": [],
        "first": pages[:1],
        "middle": pages[middle : middle + 1],
        "last": pages[-1:],
        "two": [pages[1], pages[-2]],
        "half": pages[:middle],
    }[broken]
    lost = {
        name
        for page in which
        for name in (artifact.path.name for artifact in made if artifact.path)
        if name.encode() in (cache / "registry.db").read_bytes()[page * PAGE : (page + 1) * PAGE]
    }
    for page in which:
        write_over(cache / "registry.db", page * PAGE, os.urandom(PAGE))

    with Registry(cache) as registry:
        assert list(registry.artifacts()) == []
        place = newest(cache)
        before = tree(place)
        done = recover(registry, place)
        assert tree(place) == before
        assert done == Recovery(read=40 - len(lost), recovered=40 - len(lost))
        for number, artifact in enumerate(made):
            found = registry.need(artifact.id)
            assert (found is None) == (artifact.path is None or artifact.path.name in lost)
            if found is not None:
                assert found.label == artifact.label
                with registry.open_file(found.id) as file:
                    assert file.read() == content(number)
        registry.check(repair=True)
        assert registry.check(checksums=True).ok
        assert recover(registry, place).known == 40 - len(lost)


def test_each_row_is_checked_against_its_file(cache: Path) -> None:
    whole, missing, damaged, short = filled(cache, 4)
    spoil_schema(cache)
    path_of(missing).unlink()
    spoil(path_of(damaged), path_of(damaged).read_bytes()[:-1] + b"?")
    spoil(path_of(short), b"?")
    with Registry(cache) as registry:
        done = recover(registry, newest(cache))
        assert done == Recovery(read=4, recovered=1, missing=1, damaged=2)
        assert [artifact.id for artifact in registry.artifacts()] == [whole.id]
        registry.check(repair=True)
        assert registry.check(checksums=True).ok


def test_the_order_of_the_last_needs_is_kept(cache: Path) -> None:
    made = filled(cache, 5)
    with Registry(cache) as registry:
        for artifact in (made[3], made[0]):
            registry.need(artifact.id)
        order = [artifact.id for artifact in registry.artifacts()]
    spoil_schema(cache)
    with Registry(cache) as registry:
        recover(registry, newest(cache))
        assert [artifact.id for artifact in registry.artifacts()] == order


def test_what_is_known_meanwhile_is_left_as_it_is(cache: Path) -> None:
    filled(cache, 3)
    spoil_schema(cache)
    with Registry(cache) as registry:
        registry.get_or_prepare(of(0), lambda: b"anew")
        claim = registry.claim(of(1))
        assert isinstance(claim, Claim)
        assert recover(registry, newest(cache)) == Recovery(read=3, recovered=1, known=2)
        claim.publish(b"anew")
        for number, data in enumerate((b"anew", b"anew", content(2))):
            with registry.open_file(of(number)) as file:
                assert file.read() == data


def test_a_recovery_that_was_cut_short_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(cache, 6)
    spoil_schema(cache)
    with Registry(cache) as registry:
        published = 0
        publish = Claim.publish

        def interrupted(claim: Claim, data: Path) -> Artifact:
            nonlocal published
            published += 1
            if published == 3:
                raise KeyboardInterrupt
            return publish(claim, data)

        monkeypatch.setattr(Claim, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recover(registry, newest(cache))
        monkeypatch.undo()
        registry.check(repair=True)  # which sweeps
        done = recover(registry, newest(cache))
        assert done == Recovery(read=6, recovered=4, known=2)
        assert registry.check(checksums=True).ok


def no_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def header(path: Path) -> None:
    write_over(path, 0, b"\xff" * HEADER)


def without_the_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE artifact")
        connection.commit()


@pytest.mark.parametrize("destroy", [no_database, empty, header, without_the_table])
def test_where_nothing_can_be_read_nothing_comes_back(
    cache: Path, destroy: Callable[[Path], None]
) -> None:
    filled(cache, 3)
    spoil_schema(cache)
    with Registry(cache) as registry:
        destroy(newest(cache) / "registry.db")
        assert recover(registry, newest(cache)) == Recovery()


def test_rows_that_are_still_in_the_wal_come_back(cache: Path, tmp_path: Path) -> None:
    filled(cache, 2)
    with Registry(cache) as registry:
        registry.get_or_prepare(of(2), lambda: content(2))
        kept = shutil.copytree(cache, tmp_path / "kept")
    place = kept / "damaged" / "by hand"
    place.mkdir(parents=True, mode=0o700)
    for name in ("registry.db", "registry.db-wal"):
        os.rename(kept / name, place / name)
    for name in ("registry.db-shm", "cache.id"):
        (kept / name).unlink()
    with Registry(kept) as registry:
        assert recover(registry, place) == Recovery(read=3, recovered=3)
    write_over(place / "registry.db-wal", 0, os.urandom(64))
    with Registry(kept) as registry:
        assert recover(registry, place) == Recovery(read=2, known=2)


def test_hostile_rows_bring_nothing_back(cache: Path) -> None:
    made = filled(cache, 4)
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        for number, change in enumerate(
            (
                "path = '../cache.id'",
                "code_hash = code_hash || char(0)",
                "prep_hash = '/etc'",
                "label = CAST(x'00ff' AS TEXT)",
            )
        ):
            connection.execute(
                f"UPDATE artifact SET {change} WHERE code_hash = ?", (made[number].id.code_hash,)
            )
        connection.commit()
    spoil_schema(cache)
    with Registry(cache) as registry:
        assert recover(registry, newest(cache)) == Recovery(read=1, recovered=1)
        assert len(rows(cache)) == 1


def test_the_last_row_id_that_there_is_can_be_read(cache: Path) -> None:
    filled(cache, 2)
    with closing(sqlite3.connect(cache / "registry.db")) as connection:
        connection.execute("UPDATE artifact SET id = 9223372036854775807 WHERE id = 1")
        connection.commit()
    spoil_schema(cache)
    with Registry(cache) as registry:
        assert recover(registry, newest(cache)) == Recovery(read=2, recovered=2)
