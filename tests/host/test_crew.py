"""The workers of a pool, when it is we who are mistaken."""

from __future__ import annotations

import pytest
from host.stories import ECHO, story

from registry.errors import HandleClosed
from registry.host.crew import Crew
from registry.host.metrics import PoolMetrics
from registry.host.prepare_queue import Enqueue, PrepareQueue
from registry.host.worker import Worker


class Mistake:
    async def perform(self, worker: Worker) -> object:
        raise ZeroDivisionError


@story
async def test_a_mistake_of_ours_is_told_to_all_and_ends_the_crew(workers):
    crew: Crew[Enqueue] = Crew(PrepareQueue().handle, ECHO, workers, PoolMetrics("prepare"))
    with pytest.raises(ZeroDivisionError):
        await crew.run("a", Mistake(), Enqueue("a"))
    with pytest.raises(HandleClosed):
        await crew.run("b", Mistake(), Enqueue("b"))
    await crew.stop()
