"""Workers and jobs killed at random, requesters going away: each request has one proper end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from datetime import timedelta

import pytest
from host.stories import AMPLE, ROGUE, Meeting, meeting, story

from registry.errors import ExecutionError, InvalidCandidate, PossiblyInvalid
from registry.host.pool.execute_pool import ExecutePool
from registry.host.queue.policy import Shares
from registry.host.queue.priority import ExecutionKind

REQUESTS = 40
# Short, for a job that was stopped takes four times as long to be given up.
LIMIT = timedelta(seconds=0.5)
ENDS = {
    "answered",
    (PossiblyInvalid, "job_died"),
    (PossiblyInvalid, "worker_died"),
    (InvalidCandidate, "timed_out"),
    "cancelled",
}


@pytest.mark.parametrize("seed", range(2))
@story
async def test_whatever_is_killed_each_request_has_one_end(workers, tmp_path, seed):
    dice = random.Random(seed)
    artifact = tmp_path / "published"
    artifact.write_bytes(b"native code")
    async with (
        meeting() as held,
        ExecutePool(ROGUE, workers, workers=3, policy=Shares()) as pool,
    ):

        async def ask() -> object:
            request = {"do": dice.choice(["meet", "fork and meet"]), "at": held.at, "read": True}
            kind = dice.choice(list(ExecutionKind))
            environment = dice.choice(["red", "blue"])
            try:
                executed = await pool.execute(
                    artifact, request, kind=kind, environment=environment, cpu_limit=LIMIT
                )
            except ExecutionError as error:
                return type(error), error.kind
            except asyncio.CancelledError:
                return "cancelled"
            assert executed.result in (b"native code", None)
            return "answered"

        tasks = [asyncio.create_task(ask()) for _ in range(REQUESTS)]
        fate = asyncio.create_task(_play(held, dice, tasks))
        ends = await asyncio.gather(*tasks)
        fate.cancel()
        assert set(ends) <= ENDS
        assert len(set(ends)) > 2, "the dice were not thrown"
        executed = await pool.execute(artifact, {"do": "read"}, cpu_limit=AMPLE)
        assert executed.result == b"native code"


async def _play(held: Meeting, dice: random.Random, tasks: list[asyncio.Task[object]]) -> None:
    while True:
        guest = await held.guest()
        with suppress(ProcessLookupError):  # killed already, for its requester went away
            match dice.randrange(6):
                case 0:
                    os.kill(guest.worker, signal.SIGKILL)
                case 1:
                    os.kill(guest.pid, signal.SIGKILL)
                case 2:
                    os.kill(guest.pid, signal.SIGSTOP)
                case 3:
                    dice.choice(tasks).cancel()
                    guest.dismiss()
                case _:
                    guest.dismiss()
