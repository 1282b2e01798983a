"""Folders are removed with whatever others have put into them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.world.removal import empty, remove


def test_no_folder_is_nothing_to_remove(tmp_path: Path):
    remove(tmp_path / "never")


def test_a_link_is_refused_and_what_it_leads_to_is_left(tmp_path: Path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(OSError):  # in words that differ between versions of Python
        remove(tmp_path / "link")
    assert (tmp_path / "kept").is_dir()


def test_a_folder_is_emptied_of_all_but_what_is_kept(tmp_path: Path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    (folder / "made" / "deep").mkdir(parents=True)
    outside.mkdir()
    for path in (outside / "file", folder / "kept", folder / "file", folder / "made" / "file"):
        path.write_text("x")
    (folder / "link").symlink_to(outside)
    empty(folder, keep={"kept"})
    assert os.listdir(folder) == ["kept"]
    assert os.listdir(outside) == ["file"], "a link goes, and not what it leads to"


READ_ONLY = """
import os, sys
from pathlib import Path
from registry.world.removal import remove

os.chown(".", 65534, -1)
os.setuid(65534)
folder = Path("folder")
(folder / "a/b").mkdir(parents=True)
(folder / "a/b/file").write_text("x")
(folder / "a/link").symlink_to("/")
for name in ("a/b", "a", "."):
    (folder / name).chmod(0o500)
remove(folder)
sys.exit(folder.exists())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_read_only_folders_are_removed_too(tmp_path: Path):
    # For root nothing is read-only, so it is done as somebody else.
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY], cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0
