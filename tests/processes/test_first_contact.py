"""Any number of processes may open a directory that nobody has opened before."""

from __future__ import annotations

from pathlib import Path

import pytest

from processes.crew import Crew, Line
from processes.traces import code_id, lines, note, query
from registry import Registry
from registry.opening import migrate


def opens(line: Line, rounds: int) -> int:
    """Open a new cache a round, at the same moment as the others, and use it."""
    for number in range(rounds):
        cache, log = line.ask("ready")
        with Registry(cache) as registry:

            def prepare(log: Path = log, number: int = number) -> bytes:
                note(log, number)
                return b"x"

            registry.get_or_prepare(code_id("first"), prepare)
            problems = registry.check().problems
            assert problems == [], problems
    return rounds


def test_sixteen_processes_open_a_new_directory_at_once(
    cache: Path, crew: Crew, tmp_path: Path
) -> None:
    rounds = 3
    children = [crew.start(opens, rounds) for _ in range(16)]
    for number in range(rounds):
        log = tmp_path / f"log{number}"
        for child in children:
            child.expect("ready")
        for child in children:
            child.tell((cache / str(number), log))
    assert [child.hear() for child in children] == [rounds] * 16

    assert [len(lines(tmp_path / f"log{number}")) for number in range(rounds)] == [1] * rounds


def dies_while_opening(line: Line, cache: Path, module: str, name: str, before: bool) -> None:
    """Stop for ever before, or after, one step of making the cache."""
    import importlib

    owner = importlib.import_module(module)
    step = getattr(owner, name)

    def stop(*args: object, **options: object) -> None:
        if not before:
            step(*args, **options)
        line.ask("stopped")

    setattr(owner, name, stop)
    Registry(cache)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("registry.opening.cache", "_create"),
        ("registry.opening.migrate", "upgrade"),
        ("registry.opening.cache", "store_identity"),
    ],
    ids=["creating", "migrating", "naming"],
)
def test_who_dies_while_making_a_cache_leaves_it_to_be_finished(
    cache: Path, crew: Crew, module: str, name: str, before: bool
) -> None:
    maker = crew.start(dies_while_opening, cache, module, name, before)
    maker.expect("stopped")

    maker.kill()

    with Registry(cache) as registry:
        registry.get_or_prepare(code_id("x"), lambda: b"x")
    assert query(cache, "SELECT version_num FROM alembic_version") == [(migrate.HEAD,)]
    assert (cache / "cache.id").read_text().strip() == query(cache, "SELECT uuid FROM cache")[0][0]


def test_others_wait_for_the_one_who_makes_the_cache(cache: Path, crew: Crew) -> None:
    maker = crew.start(dies_while_opening, cache, "registry.opening.migrate", "upgrade", True)
    maker.expect("stopped")
    others = [crew.start(opens, 1) for _ in range(3)]
    for other in others:
        other.expect("ready")
        other.tell((cache, cache.parent / "log"))

    maker.kill()

    assert [other.hear() for other in others] == [1, 1, 1]
