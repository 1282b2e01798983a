"""What every test starts from: an empty cache directory, a handle on it, ids, a clock to hold."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from freezegun import config, freeze_time
from freezegun.api import FrozenDateTimeFactory

from registry import ArtifactId, Registry

# What pytest measures is not what a test does with the clock: else `--durations` shows decades.
config.configure(extend_ignore_list=["_pytest.timing"])

# A shell ignores it for what it starts in the background, and so would all that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    """Stand the clock of the rows still; name it before `registry`, so that it opens under it."""
    with freeze_time("2026-01-01 12:00:00") as frozen:
        yield frozen


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the cache of this test is, or will be."""
    return tmp_path / "cache"


@pytest.fixture
def registry(cache: Path) -> Iterator[Registry]:
    """Open the cache."""
    with Registry(cache) as opened:
        yield opened


@pytest.fixture
def other(cache: Path, registry: Registry) -> Iterator[Registry]:
    """Open the same cache a second time: another host."""
    with Registry(cache) as opened:
        yield opened


@pytest.fixture
def new_id() -> Callable[[], ArtifactId]:
    """Make ids, each of other code."""
    numbers = count()
    return lambda: ArtifactId.of(b"code %d" % next(numbers))


@pytest.fixture(name="id")
def one_id(new_id: Callable[[], ArtifactId]) -> ArtifactId:
    """The one id of a test that needs but one."""
    return new_id()


# Real workers, many processes, long random walks, whole environments: measured with --durations.
SLOW = (
    *("adapters/", "cli/", "confinement/", "docs/", "host/", "packaging/", "processes/"),
    *("simulator/", "wasm/", "aio/test_cancellation.py", "aio/test_processes.py"),
    *("opening/test_hostile.py", "verbs/test_internal_errors.py", "world/test_out_of_room.py"),
    *("test_blame.py", "test_testing.py", "schema/test_next_prune.py"),
    *("doctor/test_before_opening.py", "opening/test_bit_flips.py", "opening/test_cache.py"),
    *("opening/test_damaged_pages.py", "sync/test_agreement.py", "verbs/test_hits.py"),
    *("test_benchmarks.py", "verbs/test_interruption.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what is in a slow folder or file."""
    here = Path(__file__).parent
    for item in items:
        if str(item.path.relative_to(here)).startswith(SLOW):
            item.add_marker("slow")
