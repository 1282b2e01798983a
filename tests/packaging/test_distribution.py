"""What would be uploaded: it can be installed where nothing else is, by each supported Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from support.wheels import ROOT, build

PYTHONS = ("3.11", "3.12", "3.13")
SMOKE = """
import sys
from pathlib import Path
from registry import ArtifactId, Registry, prepared

with Registry("cache") as cache:
    id = ArtifactId.of(b"code")
    assert cache.get_or_prepare(id, lambda: b"artifact").path.read_bytes() == b"artifact"
    assert cache.need(id) is not None
    assert cache.check(checksums=True).ok

@prepared(version=1, name="double", cache="cache")
def double(text: str) -> bytes:
    return text.encode() * 2

assert double("a") == double("a") == b"aa"
"""


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution of the checkout, and the wheel that is built from it."""
    ignored = shutil.ignore_patterns(".venv*", ".git", "__pycache__", ".*_cache", "dist", "site")
    source = shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "tree", ignore=ignored)
    target = tmp_path_factory.mktemp("dist")
    sdist = build(source, target, "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(target / "unpacked", filter="data")
    (unpacked,) = (target / "unpacked").iterdir()
    return sdist, build(unpacked, target)


def test_they_are_called_compile_registry(uploads: tuple[Path, Path]) -> None:
    assert [it.name.partition("-")[0] for it in uploads] == ["compile_registry"] * 2


def test_an_index_would_take_them(uploads: tuple[Path, Path]) -> None:
    pytest.importorskip("twine", reason="twine is not installed")
    check = [sys.executable, "-m", "twine", "check", "--strict", *uploads]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sources_have_what_users_need_and_no_ci_files(uploads: tuple[Path, Path]) -> None:
    with tarfile.open(uploads[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    hidden = {name for name in names if name.startswith(".")}
    assert hidden <= {".gitignore"}  # which the build itself adds
    assert {"README.md", "LICENSE", "tests/conftest.py", "docs/terminal.svg"} <= names


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (told,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(told))


def test_links_are_absolute_once_the_address_of_the_project_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPOSITORY_URL", "https://forge.example/registry/")
    metadata = metadata_of(build(ROOT, tmp_path))
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    assert "https://forge.example/registry/raw/main/docs/terminal.svg" in links
    assert [link for link in links if not link.startswith("https://")] == []
    assert "Repository, https://forge.example/registry" in metadata.get_all("Project-URL", [])


def test_the_wheel_says_for_whom_it_is(uploads: tuple[Path, Path]) -> None:
    metadata = metadata_of(uploads[1])
    assert metadata["Name"] == "compile-registry"
    assert "Operating System :: POSIX :: Linux" in metadata.get_all("Classifier", [])
    assert {"wasm", "isolate"} <= set(metadata.get_all("Provides-Extra", []))


def python(version: str) -> str:
    """An interpreter of that version, on the path or of pyenv; skip without one."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    built = sorted(home.glob(f"versions/{version}.*/bin/python{version}"))
    this = sys.executable if sys.version_info[:2] == tuple(map(int, version.split("."))) else None
    found = this or next(map(str, built), None) or shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"Python {version} is not installed")
    return found


def installed(wheel: Path, version: str, home: Path) -> Path:
    """An environment in which nothing but the wheel was asked for."""
    subprocess.run([python(version), "-m", "venv", home], check=True, capture_output=True)
    pip = [home / "bin" / "pip", "--disable-pip-version-check", "--no-input"]
    fetch = [*pip, "download", "--quiet", "--no-deps", "--dest", home / "probe", "click"]
    if subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip("no package index can be reached")
    install = [*pip, "install", "--quiet", wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return home / "bin"


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("version", PYTHONS)
def test_it_works_where_nothing_else_is_installed(
    uploads: tuple[Path, Path], version: str, tmp_path: Path
) -> None:
    tools = installed(uploads[1], version, tmp_path / "environment")
    story = (
        [tools / "python", "-I", "-W", "error", "-c", SMOKE],
        [tools / "registry", "--cache", "cache", "ls"],
        [tools / "registry", "--cache", "cache", "check"],
    )
    for command in story:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"{command}\n{done.stderr}"
