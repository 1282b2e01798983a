"""What goes wrong with one worker retires that worker, and nothing else."""

from __future__ import annotations

import pytest
from host.stories import ECHO, story

from registry.errors import InternalError
from registry.host.metrics import PoolMetrics
from registry.host.pool.worker import Worker
from registry.host.pool.workers import Crew
from registry.host.queue.prepare_queue import Enqueue, PrepareQueue


class Mistake:
    async def perform(self, worker: Worker) -> object:
        raise ZeroDivisionError


class Fine:
    async def perform(self, worker: Worker) -> object:
        return "done"


@story
async def test_a_mistake_of_ours_is_told_to_who_asked_and_retires_the_worker(workers):
    crew: Crew[Enqueue] = Crew(PrepareQueue().handle, ECHO, workers, PoolMetrics("prepare"))
    with pytest.raises(InternalError, match="ZeroDivisionError") as caught:
        await crew.run("a", Mistake(), Enqueue("a"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert await crew.run("b", Fine(), Enqueue("b")) == "done"
    await crew.stop()


@story
async def test_a_mistake_in_clearing_up_is_logged_and_harms_nobody(workers, monkeypatch, caplog):
    crew: Crew[Enqueue] = Crew(PrepareQueue().handle, ECHO, workers, PoolMetrics("prepare"))
    bury = Worker.bury

    async def stumble(self: Worker) -> None:
        await bury(self)
        raise RecursionError

    monkeypatch.setattr(Worker, "bury", stumble)
    with pytest.raises(InternalError):
        await crew.run("a", Mistake(), Enqueue("a"))
    assert await crew.run("b", Fine(), Enqueue("b")) == "done"
    await crew.stop()
    assert "could not be cleared up after" in caplog.text
