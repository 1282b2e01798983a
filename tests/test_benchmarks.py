"""The measurements run. What they measure is not looked at: this machine is busy with the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(600)
def test_each_measurement_runs_and_shows_a_table(tmp_path: Path) -> None:
    written = tmp_path / "tables.md"
    options = ("--quick", "--seconds", "1", "--markdown", str(written), "--plots", str(tmp_path))
    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a promise was missed
    assert "Traceback" not in done.stderr
    sections = written.read_text().split("`python -m benchmarks ")[1:]
    measured = {section.partition("`")[0] for section in sections}
    assert measured == {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - NO_QUESTIONS
    assert [section for section in sections if "| --- |" not in section] == []
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == PLOTS


NO_QUESTIONS = {"__init__", "__main__", "contest", "plot", "report", "rivals", "stock"}
PLOTS = ["scale-by-processes.svg", "scale-by-rows.svg"]
