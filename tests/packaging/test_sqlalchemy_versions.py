"""Both lines of SQLAlchemy that are supported do: the suite runs on one, this on the other.

What Core compiles to is the same text on both, so the file of statements is held equal on both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from support.wheels import ROOT

LINES = {"2.0": "sqlalchemy>=2.0,<2.1", "2.1": "sqlalchemy>=2.1,<2.2"}
# All that imports SQLAlchemy: the source of the statements, and migrations; and who uses both.
TRIED = (
    "tests/sql",
    "tests/schema/test_migrations.py",
    "tests/schema/test_schema.py",
    "tests/verbs/test_claim.py",
)


def installed(line: str, kept: Path) -> Path:
    """A folder with nothing but that SQLAlchemy; kept between runs. Skips where pip cannot."""
    place = kept / line
    if not place.is_dir():
        fresh = kept / f"{line}.{os.getpid()}"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*install, "--target", fresh, LINES[line]], capture_output=True, text=True, check=False
        )
        if done.returncode:
            shutil.rmtree(fresh, ignore_errors=True)
            pytest.skip(f"pip cannot install {LINES[line]}: {done.stderr.strip()[-200:]}")
        fresh.rename(place)  # as a whole, or not at all
    return place


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", LINES)
def test_statements_and_migrations_do_with_each_supported_sqlalchemy(
    line: str, pytestconfig: pytest.Config
) -> None:
    if sqlalchemy.__version__.startswith(f"{line}."):
        pytest.skip(f"the whole suite runs with SQLAlchemy {sqlalchemy.__version__}")
    assert pytestconfig.cache is not None
    place = installed(line, pytestconfig.cache.mkdir("sqlalchemy"))
    environment = {**os.environ, "PYTHONPATH": str(place)}
    asked = [sys.executable, "-c", "import sqlalchemy; print(sqlalchemy.__version__)"]
    told = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"{line}.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TRIED],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
