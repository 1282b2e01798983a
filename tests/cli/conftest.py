"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command

from registry import Registry


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, in a home of its own, with a cache that nobody has used yet."""
    return Command(tmp_path)


@pytest.fixture
def registry(command: Command) -> Iterator[Registry]:
    """The library on the command's cache."""
    with Registry(command.cache) as opened:
        yield opened
