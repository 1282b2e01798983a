from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host.stories import await_the_end_of, running_in


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Path]:
    """A folder for a pool's workers, of which nothing must be left in the end."""
    folder = tmp_path / "workers"
    yield folder
    await_the_end_of(running_in(folder))
    left = [path.name for path in folder.glob("*")]
    assert left == [], "a stopped pool leaves nothing in its folder"


@pytest.fixture
def hosted(cache: Path) -> Iterator[Path]:
    """A cache in which hosts work, of whom no process and no file must be left in the end."""
    yield cache
    assert running_in(cache) == [], "a stopped host leaves no process"
    assert list((cache / "workers").iterdir()) == [], "a closed handle leaves no folder"
