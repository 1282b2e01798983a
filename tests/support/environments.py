"""Environments with a framework in one version, made by pip and kept between runs.

They are in `$REGISTRY_TEST_ENVS`, else in the user's cache directory. What does not install skips
the tests that need it, with the reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from hashlib import sha256
from importlib.metadata import requires
from pathlib import Path

import pytest

import registry

__all__ = ["Environment", "environment"]

MINUTES_10 = 600
# Installing the frameworks and compiling with them takes half an hour; these run by themselves.
EACH_TIME = (
    "test_triton.py::test_processes_that_start_at_once_compile_each_kernel_once[newest]",
    "test_jax.py::test_processes_that_start_at_once_compile_each_executable_once[newest]",
)


class Environment:
    """A Python with a framework and with the registry under test."""

    def __init__(self, folder: Path, links: Path) -> None:
        self.python = folder / "bin" / "python"
        self._links = links

    def variables(self, **more: str) -> dict[str, str]:
        """The environment variables of a program in it."""
        kept = {it: os.environ[it] for it in ("PATH", "HOME", "LANG") if it in os.environ}
        return {**kept, "PYTHONPATH": str(self._links), **more}

    def start(self, script: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start a program in it."""
        return subprocess.Popen(
            [self.python, script, *arguments],
            env=self.variables(**more),
            cwd=script.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: Path, *arguments: str, **more: str) -> str:
        """Run a program in it to its end; what it printed."""
        process = self.start(script, *arguments, **more)
        printed, _ = process.communicate(timeout=MINUTES_10)
        assert process.returncode == 0, printed
        return printed

    def run_at_once(self, count: int, script: Path, *arguments: str, **more: str) -> list[str]:
        """Run a program so often that they go on together, once each has said "ready"."""
        started = [self.start(script, *arguments, **more) for _ in range(count)]
        for process in started:
            assert process.stdout is not None
            while (line := process.stdout.readline()) != "ready\n":
                assert line, "it ended"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate(timeout=MINUTES_10)[0] for process in started]


def environment(tmp_path: Path, *wanted: str) -> Environment:
    """Make an environment, or take one that was made before; skip where it does not install.

    Skips too what does not run each time, unless `$REGISTRY_FRAMEWORKS` is "all".
    """
    test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
    if os.environ.get("REGISTRY_FRAMEWORKS") != "all" and not test.endswith(EACH_TIME):
        pytest.skip("takes minutes: set REGISTRY_FRAMEWORKS=all")
    ours = [it for it in requires("compile-registry") or [] if "extra ==" not in it]
    named = sha256(repr((sys.version, wanted, sorted(ours))).encode()).hexdigest()[:12]
    folder = _home() / f"{wanted[0].replace('=', '-')}-{named}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of tests that run at once, one makes it
        if not (folder / "complete").exists():
            _make(folder, [*wanted, *ours])
    return Environment(folder, _links(tmp_path))


def _home() -> Path:
    if named := os.environ.get("REGISTRY_TEST_ENVS"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else Path.home() / ".cache", "registry-test-envs")


def _make(folder: Path, wanted: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--retries=1", "--timeout=20"]
    try:
        done = subprocess.run(
            [*pip, *wanted], capture_output=True, text=True, timeout=MINUTES_10, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{wanted[0]} does not install within ten minutes")
    if done.returncode != 0:
        pytest.skip(f"{wanted[0]} does not install: {done.stderr.strip()[-300:]}")
    (folder / "complete").touch()


def _links(tmp_path: Path) -> Path:
    """A folder in which the registry under test is found, and nothing else."""
    links = tmp_path / "under-test"
    links.mkdir(exist_ok=True)
    package = Path(registry.__file__).parent
    for source in (package, package.parent / "migrations"):
        if source.exists() and not (links / source.name).exists():
            (links / source.name).symlink_to(source)
    return links
