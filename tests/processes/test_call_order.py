"""The order of system calls, on which a power cut's harmlessness rests.

Publishing: the bytes, their fsync, the rename, the folder's fsync, and only then the row. Ending:
the row, the fsync of the -wal file, and only then the unlink.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from processes.crew import Crew, Line
from processes.traces import claimed, code_id
from processes.tracing import between_stops, trace, why_no_strace
from registry import Registry

pytestmark = pytest.mark.skipif(bool(why_no_strace()), reason=why_no_strace() or "-")

X = code_id("x")
CALLS = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,copy_file_range"
# What happened, by a pattern of strace's lines; descriptors are shown with their paths.
STEPS = {
    "bytes": r"write\(\d+<\S*/artifacts/\S+\.pvf\.tmp>",
    "fsync of the file": r"fsync\(\d+<\S*/artifacts/\S+\.pvf\.tmp>\)",
    "rename": r'rename\w*\(.*\.pvf\.tmp", .*\.pvf"',
    "moved in": r'rename\w*\(.*made", .*\.pvf\.tmp"',
    "fsync of the folder": r"fsync\(\d+<\S*/artifacts>\)",
    "row": r"pwrite64\(\d+<\S*/registry\.db-wal>",
    "fsync of the row": r"f(data)?sync\(\d+<\S*/registry\.db-wal>\)",
    "unlink": r'unlink(at)?\(.*/artifacts>, "[0-9a-f]{128}\.pvf"',
}


def publishes(registry: Registry, cache: Path) -> Callable[[], object]:
    claim = claimed(registry, X)
    return lambda: claim.publish(b"artifact")


def publishes_a_file(registry: Registry, cache: Path) -> Callable[[], object]:
    made = cache.with_name("made")
    made.write_bytes(b"artifact")
    claim = claimed(registry, X)
    return lambda: claim.publish(made)


def prunes(registry: Registry, cache: Path) -> Callable[[], object]:
    for name in "xyz":
        claimed(registry, code_id(name)).publish(b"artifact")
    return lambda: registry.prune(cache_limit=0, min_stale_time=timedelta(0))


def removes(registry: Registry, cache: Path) -> Callable[[], object]:
    claimed(registry, X).publish(b"artifact")
    return lambda: registry.remove(X)


def finds_damage(registry: Registry, cache: Path) -> Callable[[], object]:
    path = claimed(registry, X).publish(b"artifact").path
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(b"?")
    return lambda: registry.need(X)


def does(line: Line, cache: Path, verb: Callable[[Registry, Path], Callable[[], object]]) -> None:
    """Be traced while a verb runs."""
    with Registry(cache) as registry:
        between_stops(verb(registry, cache))


def steps_of(
    crew: Crew, cache: Path, verb: Callable[[Registry, Path], Callable[[], object]]
) -> list[str]:
    """What a verb does, in its order, each thing said once however often it is repeated."""
    child = crew.start(does, cache, verb)
    lines = trace(child, cache.with_name("log"), "-e", f"trace={CALLS}")
    assert child.join() == 0
    steps = [name for line in lines for name, like in STEPS.items() if re.match(like, line)]
    return [step for at, step in enumerate(steps) if steps[at - 1 : at] != [step]]


@pytest.mark.parametrize(
    ("verb", "first"), [(publishes, "bytes"), (publishes_a_file, "moved in")], ids=["bytes", "file"]
)
def test_a_row_is_written_once_its_file_is_on_the_disk(
    cache: Path, crew: Crew, verb: Callable[..., object], first: str
) -> None:
    assert steps_of(crew, cache, verb) == [
        first,
        "fsync of the file",
        "rename",
        "fsync of the folder",
        "row",
    ]


@pytest.mark.parametrize("verb", [prunes, removes, finds_damage])
def test_a_file_is_unlinked_once_the_end_of_its_row_is_on_the_disk(
    cache: Path, crew: Crew, verb: Callable[..., object]
) -> None:
    steps = steps_of(crew, cache, verb)
    assert steps[:3] == ["row", "fsync of the row", "unlink"]
    assert steps.count("unlink") == 1  # in one go, all of them after the one fsync
