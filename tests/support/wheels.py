"""Wheels of this project, of now or of an earlier commit, in environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

__all__ = ["ROOT", "Unknown", "build", "install", "last_commit_of", "unpack"]

ROOT = Path(__file__).parents[2]


class Unknown(Exception):
    """The history does not reach back so far, or there is none."""


def build(source: Path, target: Path, kind: str = "wheel") -> Path:
    """Build the wheel, or the "sdist", of a source tree."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", target],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind])
    return built


def install(wheel: Path, home: Path) -> Path:
    """Make an empty environment with a wheel; its dependencies are those here. Answer its Python.

    To install a wheel of pure Python is to unpack it; that needs neither pip nor a network.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    place = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    shutil.unpack_archive(wheel, place, "zip")
    here = [entry for entry in sys.path if Path(entry).name.endswith("-packages")]
    (place / "dependencies.pth").write_text("\n".join(here))
    return python


def last_commit_of(revision: str, following: str) -> str:
    """The last commit whose schema was a revision: the one before the next one came.

    Raises `Unknown`.
    """
    script = f"migrations/versions/{following}_*.py"
    added = _git("log", "--diff-filter=A", "--format=%H", "--", script).split()
    if not added:
        raise Unknown(f"git does not know when revision {following} came")
    commit = _git("rev-parse", "--verify", f"{added[-1]}^").strip()
    assert f'HEAD = "{revision}"' in _git("grep", "-h", "^HEAD = ", commit, "--", "registry")
    return commit


def unpack(commit: str, place: Path) -> Path:
    """Unpack the tree of a commit."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(place, filter="data")
    return place


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True)
    except FileNotFoundError:
        raise Unknown("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise Unknown(error.stderr.decode().strip()) from None
    return done.stdout.decode()
