"""The power fails in the middle of work: what was published is there, and nothing is damaged.

An ext4 file system of our own is shut down under working processes, so that nothing reaches the
disk any more; what its journal does not hold is gone. It is mounted again, and looked at. What a
cut may take is documented: the last claims, needs and publications, for their rows are not synced
one by one; never a row whose file is there no more, and never a byte of a file that has a row.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from processes.crew import Crew, Line
from processes.traces import assert_clean, code_id
from registry import CleanupConfig, Registry, RegistryError, State

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
FLUSHED, NOT_FLUSHED = 1, 2  # what the journal holds already is written first, or not even that
MEGABYTES = 32
ROOM = CleanupConfig(cache_limit=60_000, min_stale_time=timedelta(0))


def content(number: int) -> bytes:
    """What the artifact of a number holds: that no other holds."""
    return Random(number).randbytes(500 + number * 37 % 4000)


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place, self.mounts = folder, folder / "disk", 0
        self.image = folder / "image"
        self.place.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(MEGABYTES * 1024**2)
        self.run("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    def run(self, *command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def mount(self) -> None:
        self.run("mount", "-o", "loop", self.image, self.place)

    def mount_again(self) -> None:
        """Unmount, and mount a copy of what reached the disk.

        A copy: a confined worker of another test has a mount namespace of its own, which keeps the
        old file system mounted and shut down; the same image would be answered by that one.
        """
        self.unmount()
        self.mounts += 1
        old, self.image = self.image, self.folder / f"image{self.mounts}"
        shutil.copyfile(old, self.image)
        old.unlink()
        self.mount()

    def unmount(self) -> None:
        self.run("umount", self.place)

    def cut(self, how: int) -> None:
        """From now on nothing reaches the disk."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(fd)


def why_no_disk() -> str:
    """Why no file system can be mounted here; "" if one can."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    if shutil.which("mkfs.ext4") is None:
        return "mkfs.ext4 is not installed"
    return ""


@contextmanager
def powered(folder: Path) -> Iterator[Disk]:
    try:
        disk = Disk(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop mount is to be had: {error.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        with suppress(subprocess.CalledProcessError):
            disk.unmount()


def works(line: Line, cache: Path, first: int, step: int) -> None:
    """Publish, need and prune until nothing works any more; tell what was published."""
    with suppress(RegistryError, OSError), Registry(cache, cleanup=ROOM) as registry:
        for number in range(first, 10**9, step):
            registry.get_or_prepare(code_id(number), lambda n=number: content(n))
            line.say(number)
            registry.need(code_id(number - step))
            if number % 7 == 0:
                registry.remove(code_id(number - 2 * step))


@pytest.mark.skipif(bool(why_no_disk()), reason=why_no_disk() or "-")
@pytest.mark.parametrize("how", [FLUSHED, NOT_FLUSHED], ids=["journal flushed", "not flushed"])
def test_a_power_cut_damages_nothing(tmp_path: Path, how: int) -> None:
    """Five cuts of one disk, each in the middle of what two processes do."""
    chance = Random(how)
    with powered(tmp_path) as disk:
        cache = disk.place / "cache"
        published = survived = 0
        for _ in range(5):
            crew = Crew()
            children = [crew.start(works, cache, published + n, 2) for n in range(2)]
            for _ in range(chance.randrange(1, 12)):
                for child in children:
                    published = max(published, child.hear())
            disk.cut(how)
            crew.dismiss()
            published += 100  # numbers that nobody has used
            disk.mount_again()
            survived += look_at(cache)
    assert survived


def look_at(cache: Path) -> int:
    """Each row has its file, with the right bytes; whatever is left over can be cleaned up."""
    with Registry(cache) as registry:
        found = registry.check(checksums=True).problems
        assert {problem.kind for problem in found} <= {
            "orphan_file",  # published or pruned, and its row not written, or not synced, yet
            "dead_host",
            "abandoned_claim",
            "orphan_lock",
        }, found
        numbers = {code_id(number): number for number in range(2000)}
        for artifact in registry.artifacts(state=State.PREPARED):
            with registry.open_file(artifact.id) as file:
                assert file.read() == content(numbers[artifact.id])
    return len(assert_clean(cache))
