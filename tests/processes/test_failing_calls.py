"""The N-th system call fails, until there is none any more, of each kind and in each way.

A child lives the whole life of an artifact, and the kernel refuses it one call: of its own or of
SQLite's. It must get a documented error, or none; the same again must then work; and the cache must
be clean, with every artifact that was published before still there. REGISTRY_FAULTS=long tries
every N, which takes some minutes.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import chain, count
from pathlib import Path

import pytest
from support.templates import cache_in_memory, made_cache  # noqa: F401

from processes.crew import Crew, Line
from processes.traces import assert_clean, claimed, code_id, query
from processes.tracing import between_stops, trace, why_no_strace
from registry import ArtifactId, Registry, RegistryError

pytestmark = pytest.mark.skipif(bool(why_no_strace()), reason=why_no_strace() or "-")

LONG = os.environ.get("REGISTRY_FAULTS") == "long"
KEPT = code_id("kept")
CALLS = {
    "openat": ("EMFILE", "EACCES", "ENOSPC"),
    "newfstatat": ("EIO",),
    "read": ("EIO",),
    "pread64": ("EIO",),
    "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO",),
    "renameat": ("EIO", "ENOSPC", "EACCES"),
    "unlink": ("EACCES",),
    "unlinkat": ("EIO", "EACCES"),
    "ftruncate": ("EIO",),
    "fchmod": ("EPERM",),
    "linkat": ("ENOSPC", "ENOENT", "EMLINK"),
    "mkdir": ("ENOSPC", "EACCES"),
    "flock": ("ENOLCK",),
    "fcntl": ("ENOLCK",),
    "getdents64": ("EIO",),
}


def life(cache: Path, number: int) -> None:
    """All that may happen to an artifact, from opening the cache to closing it."""
    one, two = (ArtifactId.of(b"%d of %d" % (which, number)) for which in (1, 2))
    made = cache.with_name("made")
    with suppress(OSError):  # this call is the test's own
        made.write_bytes(b"a file")
    with Registry(cache) as registry:
        lent(registry, ArtifactId.of(b"lent %d" % number))
        registry.get_or_prepare(one, lambda: b"artifact")
        claimed(registry, two).publish(made)
        with Registry(cache) as other:
            other.need(KEPT)
            other.open_file(one).close()
            claimed(other, ArtifactId.of(b"in vain %d" % number)).fail("it went wrong")
            claimed(other, ArtifactId.of(b"given back %d" % number)).release()
        registry.remove(one)
        registry.need(KEPT)  # the other's need may have found no room to be written
        registry.prune(cache_limit=4, min_stale_time=timedelta(0))
        registry.check(repair=True, checksums=True)


def lent(registry: Registry, one: ArtifactId) -> None:
    """What is given to read, and under paths of a handle's own."""
    build = registry.artifact(version=str(one), name="build")(lambda: b"built")
    build()
    build()
    registry.put(one, b"put")
    registry.read(one)
    with registry.pinned(one, name="pinned.so"), registry.scratch_folder():
        pass


def told(cache: Path, number: int) -> str:
    """Live, and say what no user should ever see."""
    try:
        life(cache, number)
    except RegistryError:
        pass  # documented
    except Exception:
        return traceback.format_exc()
    return ""


def lives(line: Line, cache: Path) -> None:
    """Live once to have everything imported; then with a fault and without, as often as asked."""
    with Registry(cache) as registry:
        registry.get_or_prepare(KEPT, lambda: b"kept")
    life(cache, 0)
    number = 0
    while line.ask("well") == "again":
        number += 1
        words = between_stops(partial(told, cache, number))
        if words:
            raise AssertionError(words)
        with Registry(cache) as registry:
            if registry.need(KEPT) is None:
                line.say("lost")
            registry.get_or_prepare(KEPT, lambda: b"kept")
            registry.get_or_prepare(ArtifactId.of(b"next %d" % number), lambda: b"artifact")
        query(cache, "DELETE FROM history")  # else each life has more to read than the last


def numbers() -> Iterator[int]:
    """Every N; in the short form only some of those that are beyond the first twenty."""
    yield from count(1) if LONG else chain(range(1, 20), count(20, 17))


def unlocking(lines: list[str]) -> set[int]:
    """Which calls let go of a lock: no kernel refuses that, and SQLite does not bear it."""
    return {number for number, line in enumerate(lines, 1) if "F_UNLCK" in line}


@pytest.mark.parametrize(
    ("call", "error"), [(call, error) for call, errors in CALLS.items() for error in errors]
)
def test_whichever_call_fails_nothing_is_lost_and_the_next_one_works(
    cache: Path, crew: Crew, tmp_path: Path, call: str, error: str
) -> None:
    child, log = crew.start(lives, cache), tmp_path / "log"
    child.expect("well")
    child.tell("again")
    unlocks = unlocking(trace(child, log, "-e", f"trace={call}"))
    child.expect("well")
    for number in numbers():
        if number in unlocks:
            continue
        child.tell("again")
        inject = f"inject={call}:error={error}:when={number}"
        lines = trace(child, log, "-e", f"trace={call}", "-e", inject)
        heard = child.hear()
        if heard == "lost":
            assert any(".pvf" in line for line in lines if "INJECTED" in line)
            heard = child.hear()
        assert heard == "well"
        if not any("INJECTED" in line for line in lines):
            break
    child.tell("enough")
    assert child.join() == 0
    assert_clean(cache)
    print(f"{call} {error}: every one of {number - 1}" if LONG else f"{call} {error}")
