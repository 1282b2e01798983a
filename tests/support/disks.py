"""Real disks of a few megabytes, and what fills them to the last byte or inode."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["fill", "mounted", "take_inodes"]

_MAKE = {"ext4": ("mkfs.ext4", "-q", "-m", "0"), "btrfs": ("mkfs.btrfs", "-q")}
_IMAGE_MEGABYTES = {"ext4": 24, "btrfs": 128}


@contextmanager
def mounted(place: Path, kind: str, options: str = "") -> Iterator[Path]:
    """Mount a small disk; skip the test where that cannot be done here."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = place / kind
    disk.mkdir()
    if kind == "tmpfs":
        settings = ",".join(filter(None, ["size=4m,mode=700", options]))
        mount = ["mount", "-t", "tmpfs", "-o", settings, "registry", str(disk)]
    else:
        image = _image(place, kind)
        mount = ["mount", "-o", ",".join(filter(None, ["loop", options])), str(image), str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no {kind} is to be had: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def _image(place: Path, kind: str) -> Path:
    make = _MAKE[kind]
    if shutil.which(make[0]) is None:
        pytest.skip(f"{make[0]} is not installed")
    image = place / f"{kind}.img"
    with open(image, "wb") as file:
        file.truncate(_IMAGE_MEGABYTES[kind] << 20)
    subprocess.run([*make, image], check=True, capture_output=True)
    return image


def fill(disk: Path) -> None:
    """Take what is left of a disk, as another program would, to the last byte."""
    size = 1 << 20
    with open(disk / "other", "ab", 0) as file:
        while size:
            try:
                file.write(bytes(size))
                os.fsync(file.fileno())
            except OSError:
                size //= 4


def take_inodes(disk: Path) -> None:
    """Take the inodes that are left."""
    (disk / "others").mkdir(exist_ok=True)
    with suppress(OSError):
        for number in range(100_000):
            (disk / "others" / str(number)).touch()
