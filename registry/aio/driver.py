"""The driver of verbs for an event loop, as `registry.verbs.driver` is for a thread.

Cancellation: an effect that has started is awaited to its end. Then `Interrupted` is thrown into
the verb, and the effects that the verb asks for run to their end, however often the task is
cancelled again. Then CancelledError is raised. Only a sleep, and a `prepare` that is a coroutine,
are cut short.
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
    """Perform the effects of a verb, one after another; return what the verb returns.

    `refuse` is called before each effect; what it raises is thrown into the verb instead.
    """
    stopped: BaseException | None = None
    step: Callable[[Any], Effect[Any]] = verb.send
    answer: Any = None
    try:
        while True:
            effect = step(answer)
            try:
                refuse()  # another task may have closed the handle
                work = perform(effect)
                answer = await (work if stopped is None else regardless(work))
                step = verb.send
            except GeneratorExit:  # the loop ended without us: there is no awaiting any more
                stopped = None
                raise
            except Exception as error:  # noqa: BLE001 - the verb decides
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
