"""A host that is killed leaves nothing running: no worker, no job, nothing that a job forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from host.stories import await_the_end_of, meeting, running_in, story

HOST = """
import asyncio, sys
from pathlib import Path
from host.stories import named, wish
from registry.host.pool.prepare_pool import PreparePool

async def main(folder, at):
    pool = PreparePool("host.backends.rogue", Path(folder))
    await pool.prepare(named(b"x"), wish("fork and meet", at=at), {})

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["worker watching", "worker stopped"])
@story
async def test_the_death_of_a_host_ends_all_it_started(tmp_path: Path, stopped):
    workers = tmp_path / "workers"
    async with meeting() as held:
        host = _start_host(str(workers), held.at)
        guest = await held.guest()
        started = running_in(workers)
        assert {guest.pid, guest.worker} < set(started)
        if stopped:
            os.kill(guest.worker, signal.SIGSTOP)
        host.kill()
        host.wait()
        if stopped:
            os.kill(guest.worker, signal.SIGCONT)
        await_the_end_of(started)


def _start_host(*arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", HOST, *arguments], env=environment)
