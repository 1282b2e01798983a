"""Reading creates nothing; writing creates a cache, but not among other things unless asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.closed import execute
from support.command import Command, Run

from registry import Registry

READING = (
    "ls",
    "show ab",
    "why ab",
    "rm ab",
    "retry ab",
    "stats",
    "watch",
    "watch --once",
    "report --json",
    "report --html page.html",
    "hosts",
    "check",
    "metrics",
    "prune --dry-run",
)


@pytest.mark.parametrize("line", READING)
@pytest.mark.parametrize("place", ["missing", "empty", "a home"])
def test_reading_where_no_cache_is_says_so_and_creates_nothing(
    line: str, place: str, command: Command, run: Run
) -> None:
    if place != "missing":
        command.cache.mkdir()
    if place == "a home":
        (command.cache / "letter.txt").write_text("Dear all")
    before = sorted(command.home.rglob("*"))
    times = command.cache.stat().st_mtime_ns if command.cache.exists() else None
    answer = run(*line.split())
    assert (answer.code, answer.out) == (3, "")
    assert f"no cache there: {command.cache}" in answer.err
    assert sorted(command.home.rglob("*")) == before
    assert (command.cache.stat().st_mtime_ns if command.cache.exists() else None) == times


@pytest.mark.parametrize("place", ["missing", "empty", "a home"])
def test_the_doctor_creates_nothing(place: str, command: Command, run: Run) -> None:
    if place != "missing":
        command.cache.mkdir(mode=0o700)
    if place == "a home":
        (command.cache / "letter.txt").write_text("Dear all")
    before = sorted(command.home.rglob("*"))
    answer = run("doctor")
    assert "no cache there" in answer.out + answer.err
    assert answer.code == 3
    assert sorted(command.home.rglob("*")) == before


@pytest.mark.parametrize("line", [*READING, "doctor", "config", "config set cache_limit 5GiB"])
def test_nothing_is_created_beside_the_database_of_another_application(
    line: str, command: Command, run: Run
) -> None:
    command.cache.mkdir(mode=0o700)
    execute(command.cache / "registry.db", "CREATE TABLE images (name)")
    before = sorted(command.home.rglob("*"))
    answer = run(*line.split())
    assert answer.code == (1 if line == "doctor" else 3)
    assert f"{command.cache}/registry.db belongs to another application" in answer.out + answer.err
    assert sorted(command.home.rglob("*")) == before


def test_the_settings_of_a_cache_that_is_not_there_are_those_it_would_have(
    command: Command, run: Run
) -> None:
    assert run("config", "get", "cache_limit").out == "10GiB\n"
    assert run("config", "set", "nope", "3").code == 2
    assert not command.cache.exists()


@pytest.mark.parametrize("line", ["config set cache_limit 5GiB", "db upgrade", "prune"])
def test_a_cache_among_other_things_is_created_only_if_asked_for(
    line: str, command: Command, run: Run
) -> None:
    command.cache.mkdir(mode=0o700)
    (command.cache / "letter.txt").write_text("Dear all")
    refused = run(*line.split())
    assert refused.code == 3
    assert "holds other things (letter.txt) and no cache" in refused.err
    assert "--create" in refused.err
    assert [entry.name for entry in command.cache.iterdir()] == ["letter.txt"]
    assert run(*line.split(), "--create").code == 0
    assert run(*line.split()).code == 0  # now it is a cache
    with Registry(command.cache) as registry:
        assert registry.check().ok


def test_what_mkfs_leaves_and_a_creation_cut_short_are_no_other_things(
    command: Command, run: Run
) -> None:
    for name in ("lost+found", "artifacts", "hosts"):
        (command.cache / name).mkdir(mode=0o700, parents=True)
    command.cache.chmod(0o700)
    assert run("db", "upgrade").code == 0


def test_a_module_is_not_compiled_into_a_home_unasked(
    command: Command, run: Run, tmp_path: Path
) -> None:
    code = tmp_path / "x.wat"
    code.write_text("(module)")
    command.cache.mkdir(mode=0o700)
    (command.cache / "letter.txt").write_text("Dear all")
    for line in (("prepare", code), ("run", code), ("run", "--isolate", code)):
        assert run(*line).code == 3
    assert [entry.name for entry in command.cache.iterdir()] == ["letter.txt"]
    assert run("prepare", "--create", code).code == 0


@pytest.mark.parametrize("line", ["ls", "prepare add.wat", "prepare -j 2 add.wat", "prune"])
def test_a_path_that_cannot_be_examined_is_refused_as_opening_refuses_it(
    line: str, command: Command, run: Run
) -> None:
    (command.home / "add.wat").write_text("(module)")
    loop = command.home / "loop"
    loop.symlink_to(loop)
    for place in (loop, command.home / ("a" * 300)):
        answer = run("--cache", str(place), *line.split())
        assert (answer.code, answer.out) == (3, "")
        assert "choose" in answer.err or "remove it" in answer.err
