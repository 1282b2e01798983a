"""The help: shown without arguments, and never cut."""

from __future__ import annotations

import pytest
from support.command import Run


def test_the_command_alone_shows_its_help(run: Run) -> None:
    alone, asked = run(), run("--help")
    assert (alone.code, alone.out, alone.err) == (0, asked.out, "")


@pytest.mark.parametrize("group", [[], ["db"], ["config"]])
def test_no_line_of_the_help_is_cut(run: Run, group: list[str]) -> None:
    commands = run(*group, "--help").out.partition("Commands:")[2].partition("Exit codes")[0]
    assert commands.strip()
    assert "..." not in commands
