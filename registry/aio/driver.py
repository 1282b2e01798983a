"""The driver of verbs for an event loop, as `registry.verbs.driver` is for a thread.

Cancellation: an effect that has started is awaited to its end; then `Interrupted` is thrown into
the verb, what the verb wants then runs to its end, however often the task is cancelled again, and
only then is the CancelledError raised. Only sleeping, and a coroutine's own `prepare`, are cut
short.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from registry.effects import Effect, Interrupted, Verb
from registry.world.async_database import regardless

__all__ = ["drive_async"]

T = TypeVar("T")


async def drive_async(
    verb: Verb[T],
    perform: Callable[[Effect[Any]], Coroutine[Any, Any, Any]],
    refuse: Callable[[], None],
) -> T:
    """Perform what a verb wants, one effect after another, and answer what it answers.

    `refuse` is called before each effect, and raises what the verb is to be told instead.
    """
    stopped: BaseException | None = None
    step: Callable[[Any], Effect[Any]] = verb.send
    answer: Any = None
    try:
        while True:
            effect = step(answer)
            try:
                refuse()  # closed meanwhile, by another task
                work = perform(effect)
                answer = await (work if stopped is None else regardless(work))
                step = verb.send
            except GeneratorExit:  # the loop ended without us: there is no awaiting any more
                stopped = None
                raise
            except Exception as error:  # noqa: BLE001 - the verb is told, and decides
                step, answer = verb.throw, error
            except BaseException as stop:  # noqa: BLE001 - the verb compensates first
                stopped = stopped or stop
                step, answer = verb.throw, Interrupted()
    except StopIteration as done:
        if stopped is None:
            value: T = done.value
            return value
    except BaseException:
        if stopped is None:
            raise
    finally:
        answer = None  # see `registry.verbs.driver`
    try:
        raise stopped
    finally:
        stopped = None
