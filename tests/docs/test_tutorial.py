"""The tutorial, followed to the letter by somebody who has never used the registry before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
STEP = re.compile(
    r'^```python title="(?P<file>[\w.]+)"\n(?P<code>.*?)^```$|^```console\n(?P<session>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
# Times, sizes and hashes differ from machine to machine, and so does the order of equal ages.
NUMBER = re.compile(r"\b[0-9a-f]{12}\b|\d+(\.\d+)?( ?([mu]?s|B|[KMG]iB)\b)?")

pytestmark = pytest.mark.skipif(
    shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed"
)


def without_numbers(text: str) -> str:
    lines = (re.sub(" +", " ", NUMBER.sub("N", line)).rstrip() for line in text.splitlines())
    return "\n".join(lines)


def answers_of(shell: subprocess.Popen[str], command: str) -> str:
    """Run one command in a shell that lives on, and read what it says."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{command}\necho '-- done --'\n")
    shell.stdin.flush()
    said = ""
    while not (line := shell.stdout.readline()).startswith("-- done --"):
        assert line, f"the shell ended in: {command}\n{said}"
        said += line
    return said


def test_the_tutorial_says_what_happens(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("LANG", "PYTHONPATH") if name in os.environ}
    steps = list(STEP.finditer(TUTORIAL))
    assert len(steps) > 10
    with subprocess.Popen(
        ["sh"],
        cwd=tmp_path,
        env={**kept, "PATH": path, "HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as shell:
        for step in steps:
            if step["file"]:
                (tmp_path / step["file"]).write_text(step["code"])
                continue
            for part in re.split(r"^\$ ", step["session"], flags=re.MULTILINE)[1:]:
                command, _, said = part.partition("\n")
                answer = answers_of(shell, command).replace(str(tmp_path), "/home/me")
                assert without_numbers(answer) == without_numbers(said), command
        assert shell.stdin is not None
        shell.stdin.close()
