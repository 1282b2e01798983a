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
