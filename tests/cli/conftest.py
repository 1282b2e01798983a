"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from support.command import Answer, Command, Run

from registry import Registry
from registry.cli import entry


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command as a process, in a home of its own, with a cache that nobody has used yet."""
    return Command(tmp_path)


@pytest.fixture
def run(
    command: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """The same without a process of its own, for its start takes longer than most verbs."""
    monkeypatch.chdir(command.home)
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO()))
    for name, value in command.environment().items():
        monkeypatch.setenv(name, value)

    def answer(*arguments: str | Path) -> Answer:
        code = entry.run([str(argument) for argument in arguments])
        return Answer(code, *capfd.readouterr())

    return answer


@pytest.fixture
def registry(command: Command) -> Iterator[Registry]:
    """The library on the command's cache."""
    with Registry(command.cache) as opened:
        yield opened
