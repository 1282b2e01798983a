"""Processes that do the same thing at the same moment: started once, then round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any

__all__ = ["race"]

PATIENCE = 60.0


def race(runner: Callable[[Any], Any], rounds: Sequence[Any], processes: int) -> list[list[Any]]:
    """Run `runner(a round)` in so many new processes at once, for each round; all their answers.

    An exception is an answer too. `runner` must be importable by name in a fresh interpreter.
    """
    context = get_context("spawn")
    start = context.Barrier(processes)
    answers = context.Queue()
    runners = [
        context.Process(target=_run, args=(runner, rounds, start, answers), daemon=True)
        for _ in range(processes)
    ]
    for process in runners:
        process.start()
    told = [answers.get(timeout=PATIENCE) for _ in range(processes * len(rounds))]
    for process in runners:
        process.join(PATIENCE)
        process.close()
    return [[answer for index, answer in told if index == number] for number in range(len(rounds))]


def _run(runner: Callable[[Any], Any], rounds: Sequence[Any], start: Any, answers: Any) -> None:
    for number, what in enumerate(rounds):
        start.wait(PATIENCE)
        try:
            answer = runner(what)
        except Exception as error:
            answer = error
        answers.put((number, answer))
