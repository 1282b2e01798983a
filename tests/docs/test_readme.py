"""What the README says is so: its commands and its Python run, and say what it says they do."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def newcomer(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has never used the registry before."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("LANG", "PYTHONPATH") if name in os.environ}
    return {**kept, "PATH": path, "HOME": str(tmp_path)}


def without_numbers(text: str) -> str:
    """What is left when times, sizes and hashes, which differ from machine to machine, are not."""
    return re.sub(r" +", " ", re.sub(r"\b[0-9a-f]{12}\b|\d+(\.\d+)?( [mu]?s)?", "N", text))


@pytest.mark.parametrize(("number", "says"), [(0, "[78498]"), (1, "b'add, compiled for sm_90'")])
def test_the_lines_of_python_run(newcomer: dict[str, str], number: int, says: str) -> None:
    command = [sys.executable, "-c", blocks("python")[number]]
    done = subprocess.run(command, cwd=ROOT, env=newcomer, capture_output=True, text=True)
    assert done.stdout == f"{says}\n", done.stderr


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_the_lines_of_shell_say_what_the_readme_says(newcomer: dict[str, str]) -> None:
    (session,) = blocks("console")
    for step in session.split("$ ")[1:]:
        command, _, said = step.partition("\n")
        done = subprocess.run(
            ["sh", "-c", f"exec 2>&1; {command}"],
            cwd=ROOT,
            env=newcomer,
            capture_output=True,
            text=True,
        )
        assert without_numbers(done.stdout) == without_numbers(said), command


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="a source distribution has no CI files")
def test_ci_runs_the_very_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    for command in blocks("sh"):
        assert command.strip() in script


def test_the_tests_run_what_is_edited() -> None:
    (command,) = (it for it in blocks("sh") if "pytest" in it)
    assert "-e '.[test]'" in command
    assert '-m "not' in README


def test_an_index_can_show_it() -> None:
    """It knows no mermaid, and it renders a picture only if it is a picture."""
    assert "mermaid" not in README
    pictures = re.findall(r"!\[.+\]\((?:.*/)?(docs/\w+\.svg)\)", README)
    assert len(pictures) == 2
    for picture in pictures:
        ElementTree.parse(ROOT / picture)


def test_the_picture_of_the_terminal_is_of_the_commands_that_draw_it() -> None:
    drawn = ElementTree.parse(ROOT / "docs" / "terminal.svg").iterfind("{*}text[@class='command']")
    commands = runpy.run_path(str(ROOT / "docs" / "terminal.py"))["COMMANDS"]
    assert [line.text for line in drawn] == [f"$ {command}" for command in commands], (
        "draw it again: python docs/terminal.py > docs/terminal.svg"
    )
