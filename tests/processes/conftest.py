"""A cache that many processes use, and that must be clean when they are gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processes.crew import Crew
from processes.traces import assert_clean


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """Where the cache of this test is; whatever happened, it can be used and is clean after."""
    path = tmp_path / "cache"
    yield path
    if path.exists():
        assert_clean(path)


@pytest.fixture
def crew(cache: Path) -> Iterator[Crew]:
    """Start processes; they are gone before the cache is looked at."""
    started = Crew()
    yield started
    started.dismiss()
