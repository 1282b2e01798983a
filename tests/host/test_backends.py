"""The backends that we show to others work, and the page that tells how to write one is right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from host.stories import story
from support.tables import row

from registry import (
    ArtifactId,
    AsyncRegistry,
    InvalidCandidate,
    InvalidParams,
    PossiblyInvalid,
    PreparationFailed,
)
from registry.host import Confinement, Host

ROOT = Path(__file__).parents[2]
CALL = {"call": "answer"}
SOURCE = b"long long answer(void) { return ANSWER; }"

needs_cc = pytest.mark.skipif(
    shutil.which("cc", path=os.defpath) is None, reason="there is no C compiler here"
)


def run(script: Path, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_the_backend_of_the_documentation_does_what_is_said_of_it(tmp_path):
    text = (ROOT / "docs" / "backends.md").read_text()
    for name, code in re.findall(
        r"<!-- (\w+\.py),[^\n]* -->\n```python\n(.*?)```", text, re.DOTALL
    ):
        (tmp_path / name).write_text(code)
    answers = run(tmp_path / "answers.py", tmp_path).split()
    assert answers == ["42", "InvalidCandidate", "PreparationFailed"]
    assert "It prints `42`, `InvalidCandidate`, `PreparationFailed`." in text


@needs_cc
def test_the_example_in_c_runs(tmp_path):
    answers = run(ROOT / "examples" / "c_backend.py", tmp_path).splitlines()
    assert answers[:2] == ["350 steps", "5.0"]
    assert answers[2].startswith("timed_out: ")
    assert answers[3] == "1 artifact"


@needs_cc
@pytest.mark.parametrize("confinement", [None, Confinement()], ids=["open", "confined"])
@story
async def test_c_is_compiled_by_its_flags_and_its_failures_are_told(
    hosted, monkeypatch, confinement
):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import c_backend

    async with (
        AsyncRegistry(hosted) as registry,
        Host(registry, c_backend, confinement=confinement) as host,
    ):
        for number in (7, 8):
            params = {"flags": [f"-DANSWER={number}"]}
            assert await host.execute(SOURCE, params, CALL) == number
            assert row(hosted, ArtifactId.of(SOURCE, c_backend.identity(params)))
        with pytest.raises(PreparationFailed, match="ANSWER") as caught:
            await host.execute(SOURCE, {}, CALL)
        assert caught.value.artifact.retry_at is None
        with pytest.raises(PreparationFailed, match="nowhere"):
            await host.precheck(b"int nowhere(void); int f(void) { return nowhere(); }")
        with pytest.raises(InvalidCandidate, match="missing"):
            await host.execute(SOURCE, params, {"call": "missing"})
        crashing = b"long long answer(void) { return *(volatile long long *)0; }"
        with pytest.raises(PossiblyInvalid, match="SIGSEGV") as caught:
            await host.execute(crashing, {}, CALL)
        assert caught.value.kind == "job_died"
        looping = b"long long answer(void) { volatile int on = 1; while (on); return 0; }"
        with pytest.raises(InvalidCandidate) as caught:
            await host.execute(looping, {}, CALL, timeout=timedelta(seconds=0.2))
        assert caught.value.kind == "timed_out"
        with pytest.raises(InvalidParams, match="'level'"):
            await host.precheck(SOURCE, {"level": 2})
        assert await host.execute(SOURCE, params, CALL) == 8
