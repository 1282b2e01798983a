"""pytest fixtures for programs that use `registry`.

A project loads them in its top `conftest.py`, or with `-p registry.testing`:

    pytest_plugins = ["registry.testing"]

They are not loaded automatically: in a project with its own `registry.py`, pytest would import that
file and fail.

`registry_cache` is an empty cache for the test. The command, `@prepared` functions and child
processes use it instead of the user's cache. `registry_handle` is a handle on it.
`registry_clock` freezes the clock that dates rows, until the test moves it.

pytest imports this; the rest of `registry` never does.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from registry import Registry

__all__ = ["Clock", "registry_cache", "registry_clock", "registry_handle"]


class Clock:
    """The frozen time of day, which is written as the time of needs, failures and claims.

    Only in this process: a child process has the real one. Durations, and waiting for other
    processes, use another clock, which is not frozen.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start

    @property
    def now(self) -> datetime:
        """The time it shows: aware, UTC."""
        return self._now

    def advance(self, span: timedelta) -> None:
        """Move the time by a span; a negative span sets it back."""
        self._now += span

    def micros(self) -> int:
        """The time as rows have it: microseconds since the epoch."""
        return (self._now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.fixture
def registry_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache directory for this test, and set $REGISTRY_CACHE to it."""
    cache = tmp_path / "registry-cache"
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))
    return cache


@pytest.fixture
def registry_handle(registry_cache: Path) -> Iterator[Registry]:
    """Open the test's cache, and close it when the test ends."""
    with Registry(registry_cache) as handle:
        yield handle


@pytest.fixture
def registry_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Freeze the clock; request it before `registry_handle`, so that the handle opens under it."""
    clock = Clock(datetime.now(UTC))
    monkeypatch.setattr("registry.world.clock.now", clock.micros)
    time = SimpleNamespace(time_ns=lambda: clock.micros() * 1000)
    monkeypatch.setattr("registry.hot_path.time", time)  # it calls time directly, for speed
    return clock
