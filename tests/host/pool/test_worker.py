"""A worker that is removed while its host has no descriptor left."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from host.stories import ECHO, await_the_end_of, running_in, story

from registry.host.pool.worker import Worker
from registry.world.removal import remove


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@story
async def test_a_worker_ends_and_leaves_no_descriptor_when_there_is_none_to_be_had(tmp_path):
    await (await Worker.spawn(ECHO, tmp_path / "first")).bury()
    before = open_files()
    worker = await Worker.spawn(ECHO, tmp_path / "second")
    pids = running_in(tmp_path)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        await worker.bury()
    assert open_files() == before
    await_the_end_of(pids)
    remove(worker.folder)


@story
async def test_a_worker_that_cannot_be_started_leaves_no_folder(tmp_path):
    for name in "ab":
        with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
            await Worker.spawn(ECHO, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
