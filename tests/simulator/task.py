"""A verb under way in a simulated host: which effect it wants next, and when it may have it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from registry.effects import BackOff, Call, Effect, Interrupted, Run, Sleep, Verb
from registry.verbs.handle import Lease

from .host import Clock, Host, Signal

__all__ = ["Answer", "Ended", "Task", "kind_of"]

BACK_OFF_SECONDS = 0.0005
CALL_SECONDS = 0.2


@dataclass(slots=True)
class Answer:
    """How an effect ended: a value, or an exception."""

    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Ended:
    """How a verb ended: a value, the text of an exception, or an interruption."""

    value: Any = None
    error: type[BaseException] | None = None
    words: str = ""
    interrupted: bool = False

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.error.__name__}: {self.words}"
        return "interrupted" if self.interrupted else type(self.value).__name__


@dataclass(eq=False)
class Task:
    """A verb, driven one effect at a time."""

    name: str
    host: Host
    verb: Verb[Any]
    on_end: Callable[[Ended], None] | None = None
    lease: Lease | None = None  # whose claim it works on, if any
    effect: Effect[Any] | None = None
    due: float = 0.0
    latest: int = 0  # the latest time of day that this verb was told
    interrupted: bool = False
    ended: Ended | None = None

    def __str__(self) -> str:
        return f"{self.host.name} {self.name}"

    def wants(self, effect: str) -> bool:
        """Whether an effect of that kind is the next."""
        return self.effect is not None and kind_of(self.effect) == effect

    def ready(self, clock: Clock) -> bool:
        """Whether the effect may be performed; a sleeper waits for its time or its signal."""
        return self.due <= clock.elapsed or self._signalled()

    def begin(self, clock: Clock) -> Ended | None:
        """Run to the first effect."""
        return self._take(lambda: next(self.verb), clock)

    def go_on(self, answer: Answer, clock: Clock) -> Ended | None:
        """Run from the answer to the next effect; how the verb ended, if it did."""
        error = answer.error
        if isinstance(error, Interrupted):
            self.interrupted = True
        if error is None:
            return self._take(lambda: self.verb.send(answer.value), clock)
        try:
            return self._take(lambda: self.verb.throw(error), clock)
        finally:
            _let_go(error)

    def bury(self) -> None:
        """Forget a verb whose host was killed; what it still yields is nobody's to perform."""
        for _ in range(10):
            with suppress(RuntimeError):  # it yields compensations: "ignored GeneratorExit"
                self.verb.close()
                return

    def _take(self, step: Callable[[], Effect[Any]], clock: Clock) -> Ended | None:
        try:
            self.effect = step()
        except StopIteration as done:
            value = None if self.interrupted else done.value
            return Ended(value, interrupted=self.interrupted)
        except Interrupted:
            return Ended(interrupted=True)
        except Exception as error:
            ended = Ended(None, type(error), str(error), self.interrupted)
            _let_go(error)
            return ended
        self.due = clock.elapsed + _seconds(self.effect)
        return None

    def _signalled(self) -> bool:
        signal = self.effect.until if isinstance(self.effect, Sleep) else None
        return isinstance(signal, Signal) and signal.is_set


def kind_of(effect: Effect[Any]) -> str:
    """The kind of an effect: the name of the statement, or of the class."""
    return effect.statement.name if isinstance(effect, Run) else type(effect).__name__


def _seconds(effect: Effect[Any]) -> float:
    match effect:
        case Sleep():
            return effect.seconds
        case BackOff():
            return BACK_OFF_SECONDS
        case Call():
            return CALL_SECONDS
    return 0.0


def _let_go(error: BaseException | None) -> None:
    """Drop the frames that an exception holds: a lease in one of them would not be an orphan."""
    linked = [error]
    for each in linked:
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            linked += [each.__cause__, each.__context__]
