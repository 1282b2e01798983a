"""Drive a verb to its end, blocking; the rules of interruption are told in `registry.effects`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from registry.effects import INTERRUPTIBLE, Effect, Interrupted, Verb
from registry.errors import RegistryError
from registry.verbs.boundary import is_internal, outward

__all__ = ["drive", "is_nested"]

T = TypeVar("T")


def drive(verb: Verb[T], perform: Callable[[Effect[Any]], Any]) -> T:
    """Run a verb to its end; the rules of interruption are told in `registry.effects`."""
    stopped: BaseException | None = None
    step: Callable[[Any], Effect[Any]] = verb.send
    answer: Any = None
    try:
        while True:
            effect = step(answer)
            try:
                step, answer = verb.send, perform(effect)
            except BaseException as error:  # noqa: BLE001 - the verb is told, and decides
                if isinstance(error, Exception) and not _cuts_a_wait(effect, error):
                    step, answer = verb.throw, error
                else:  # Ctrl-C: the verb compensates first
                    stopped = stopped or error
                    step, answer = verb.throw, Interrupted()
    except StopIteration as done:
        if stopped is None:
            value: T = done.value
            return value
    except BaseException as error:
        if stopped is None:
            if not is_internal(error):
                raise
            raise outward(error) from error
    finally:
        # An exception that is kept here is in a cycle with its own traceback, which keeps the
        # verb's frames: a lease in them would be no orphan until the garbage is collected.
        answer = None
    try:
        raise stopped
    finally:
        stopped = None


def _cuts_a_wait(effect: Effect[Any], error: Exception) -> bool:
    """Whether an error is a signal handler's: a wait itself asks nothing that can be refused."""
    refused = isinstance(error, OSError) and not isinstance(error, RegistryError)
    return refused and isinstance(effect, INTERRUPTIBLE)


def is_nested() -> bool:
    """Whether this thread drives a verb in the middle of another one, which cannot go on before.

    In a signal handler, or in a `prepare`. The frames of the thread tell; a count would be wrong
    once a handler has raised in between.
    """
    frame, drives = sys._getframe(), 0  # noqa: SLF001 - there is no other way to ask
    while frame.f_back is not None:
        frame = frame.f_back
        drives += frame.f_code is drive.__code__
    return drives > 1
