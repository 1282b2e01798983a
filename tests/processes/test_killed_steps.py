"""Every step of every verb is the last one once: a process kills itself there; another goes on.

The stories are those of `support.stories`: what is there before, and what a verb then does. A child
forked for each step tells one, up to its N-th effect, for every N until the
verb runs through. Whoever opens the cache next finds nothing lost, and can go on at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.between import Perform, between
from support.making import prepared
from support.stories import STORIES, Scene, Story, pruning, publishing_over_the_limit
from support.templates import cache_in_memory, made_cache  # noqa: F401

from processes.traces import assert_clean, code_id
from registry import ArtifactId, Registry
from registry.effects import Effect

KEPT = code_id("kept")


def killed_at(step: int) -> Callable[[int, Effect[Any], Perform], Any]:
    """Perform effects, and be dead before that one."""

    def act(number: int, effect: Effect[Any], perform: Perform) -> Any:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return perform(effect)

    return act


def dies_in(story: Story, cache: Path, id: ArtifactId, step: int) -> bool:
    """Tell a story in a child up to a step; whether it died there, and did not come to the end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            registry, other = Registry(cache), Registry(cache)
            act = story(Scene(registry, other, cache, id))
            with between(registry, killed_at(step)):
                act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status) == signal.SIGKILL
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_process_killed_at_any_step_loses_nothing_and_stops_nobody(
    cache: Path, story: Story
) -> None:
    with Registry(cache) as registry:
        prepared(registry, KEPT)
    for step in count():
        named = ArtifactId.of(f"{story.__name__} {step}".encode())
        died = dies_in(story, cache, named, step)
        with Registry(cache) as registry:
            registry.retry(named)
            registry.get_or_prepare(named, lambda: b"artifact")
            with registry.open_file(named) as file:
                assert file.read() in (b"artifact", b"x" * 1024)
            registry.remove(named)
        if not died:
            break
    assert step > 1
    print(f"{story.__name__}: killed at each of {step} steps")
    kept = KEPT in {artifact.id for artifact in assert_clean(cache)}
    assert kept or story in (pruning, publishing_over_the_limit)
