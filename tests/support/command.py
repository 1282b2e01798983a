"""The command `registry` as its users meet it: a process, its two streams and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Answer", "Command", "Run"]


@dataclass(frozen=True)
class Answer:
    """What one run gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout, which must hold one and nothing else."""
        return json.loads(self.out)

    @property
    def errors(self) -> list[dict[str, str]]:
        """The errors on stderr, where each line must be one."""
        return [json.loads(line)["error"] for line in self.err.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The one error on stderr."""
        (error,) = self.errors
        return error


Run = Callable[..., Answer]


@dataclass(frozen=True)
class Command:
    """The command on one cache, run in `home`, which is also all that it knows of a user."""

    home: Path

    @property
    def cache(self) -> Path:
        """The cache directory that $REGISTRY_CACHE names."""
        return self.home / "cache"

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", **environment: str) -> Answer:
        """Run it to its end; a traceback is never an answer."""
        done = subprocess.run(
            self.line(*arguments),
            input=stdin,
            capture_output=True,
            cwd=self.home,
            env=self.environment(**environment),
            timeout=60,
        )
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in answer.err, answer.err
        return answer

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start it, with pipes for its streams."""
        return subprocess.Popen(
            self.line(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment(),
        )

    def line(self, *arguments: str | Path) -> list[str]:
        """The command line; warnings are errors there too."""
        return [sys.executable, "-W", "error", "-m", "registry", *map(str, arguments)]

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment: ours, with a home and a cache of its own."""
        own = {"HOME": str(self.home), "REGISTRY_CACHE": str(self.cache), "COLUMNS": "100"}
        return {**os.environ, **own, **changes}
