"""The options that every command has, and where they may stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.artifacts import prepared
from support.command import Command, Run

from registry import Registry
from registry.version import __version__


@pytest.fixture
def other(command: Command) -> Path:
    """Another cache than the one that $REGISTRY_CACHE names, holding one artifact."""
    place = command.home / "other"
    with Registry(place) as opened:
        prepared(opened, "elsewhere")
    return place


def test_options_may_stand_before_the_verb_or_after_it(
    command: Command, run: Run, other: Path
) -> None:
    for line in (
        ("--cache", other, "--json", "ls"),
        ("ls", "--cache", other, "--json"),
        ("--json", "ls", f"--cache={other}"),
        ("--cache", command.cache, "ls", "--json", "--cache", other),
    ):
        (listed,) = run(*line).document
        assert listed["label"] == "elsewhere"


def test_options_may_stand_at_any_place_of_a_verb_of_two_words(run: Run, other: Path) -> None:
    for line in (
        ("--cache", other, "--json", "db", "path"),
        ("db", "--cache", other, "path", "--json"),
        ("db", "--json", "path", "--cache", other),
    ):
        assert run(*line).document == {"path": str(other / "registry.db")}


def test_the_environment_names_the_cache_where_no_option_does(
    command: Command, other: Path
) -> None:
    answer = command("ls", "--json", REGISTRY_CACHE=str(other))
    assert [item["label"] for item in answer.document] == ["elsewhere"]


def test_the_cache_is_the_users_own_where_nothing_names_it(command: Command) -> None:
    caches = command.home / "caches"
    answer = command("db", "path", REGISTRY_CACHE="", XDG_CACHE_HOME=str(caches))
    assert answer.out == f"{caches / 'registry' / 'registry.db'}\n"


def test_a_relative_name_is_taken_from_where_the_command_runs(run: Run, other: Path) -> None:
    assert "elsewhere" in run("--cache", "other", "ls").out


@pytest.mark.parametrize("line", ["--help", "-h", "ls --help", "db -h", "config set --help"])
def test_help_goes_to_stdout(line: str, run: Run) -> None:
    answer = run(*line.split())
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("Usage: registry")


def test_the_help_tells_the_exit_codes(command: Command) -> None:
    assert "128 + N  stopped by signal N" in command("--help").out
    assert command("--version").out == f"{__version__}\n"
    assert not command.cache.exists()


def test_quiet_leaves_results_and_errors_alone(run: Run) -> None:
    for name in ("one", "two"):
        Path(f"{name}.wat").write_text(f'(module (func (export "{name}")))')
    for line in (["--quiet", "prepare"], ["prepare", "--quiet"]):
        answer = run(*line, "one.wat", "two.wat")
        assert (answer.code, answer.err) == (0, "")
        assert "one.wat" in answer.out
    assert run("prepare", "one.wat", "two.wat").err.splitlines()[-1] == "2 hit"
    assert run("show", "--quiet", "ffff").err.startswith("error: ")
