"""The wheel brings the migrations along, and upgrades with them from an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.wheels import ROOT, build, install

from registry.opening import migrate

SCRIPTS = sorted((ROOT / "migrations").rglob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout."""
    source = shutil.copytree(
        ROOT,
        tmp_path_factory.mktemp("source") / "registry",
        ignore=shutil.ignore_patterns(".*", "tests", "__pycache__", "benchmarks", "dist"),
    )
    return build(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has nothing but the wheel."""
    return install(wheel, tmp_path_factory.mktemp("environment"))


def test_the_wheel_holds_the_migrations_inside_the_package(installed: Path) -> None:
    (package,) = (installed.parents[1] / "lib").rglob("registry/__init__.py")
    inside = package.parent / "migrations"
    assert {str(script.relative_to(inside)) for script in inside.rglob("*.py")} == {
        str(script.relative_to(ROOT / "migrations")) for script in SCRIPTS
    }
    for file in ("py.typed", "cli/report/page.html", "cli/report/page.css"):
        assert (package.parent / file).exists()
    assert not (package.parents[1] / "migrations").exists()


def test_a_project_with_a_module_of_that_name_runs_its_tests(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "registry.py").write_text("NAME = 'of its own'\n")
    (tmp_path / "test_it.py").write_text(
        "import registry\ndef test_it(): assert registry.NAME == 'of its own'\n"
    )
    tests = [installed, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_installed_wheel_creates_and_upgrades_a_database(
    installed: Path, tmp_path: Path
) -> None:
    story = """\
import pathlib, sys
import registry
from registry import ArtifactId, Registry
from registry.opening import migrate

assert pathlib.Path(registry.__file__).is_relative_to(sys.prefix), registry.__file__
cache = pathlib.Path(sys.argv[1])
id = ArtifactId.of(b"code")
with Registry(cache) as opened:
    opened.get_or_prepare(id, lambda: b"artifact")
migrate.downgrade(str(cache / "registry.db"), "0001")
with Registry(cache) as opened:
    assert opened.need(id) is not None
    assert opened.check(checksums=True).ok
print(migrate.revision_of(str(cache / "registry.db")))
"""
    run = subprocess.run(
        [installed, "-I", "-W", "error", "-c", story, tmp_path / "cache"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr) == (f"{migrate.HEAD}\n", "")
