"""Real processes that a test tells what to do, hears from, stops and kills.

A child runs a function of the test's module with a `Line` to its parent. What the function returns
is the last that is heard of it; what it raises is raised where the parent listens.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

__all__ = ["PATIENCE", "Child", "Crew", "Died", "Line", "first_of", "say_when_waiting"]

# Seconds after which a test that hangs fails; no test passes because of it.
PATIENCE = 60.0
# A server that has imported what all children need and opened nothing: forking from it takes
# milliseconds, where starting Python anew takes half a second of a core.
_contexts = {
    method: multiprocessing.get_context(method) for method in ("forkserver", "spawn", "fork")
}
_contexts["forkserver"].set_forkserver_preload(["registry", "registry.aio", "pytest"])


class Died(Exception):
    """A child ended without a last word."""


class Line:
    """The child's end of the line."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, word: Any) -> None:
        self._pipe.send(("says", word))

    def hear(self) -> Any:
        return self._pipe.recv()

    def ask(self, word: Any) -> Any:
        """Say something and wait to be told what to do."""
        self.say(word)
        return self.hear()


class Child:
    """A child, as its parent has it."""

    def __init__(self, method: str, act: Callable[..., Any], args: tuple[Any, ...]) -> None:
        context: Any = _contexts[method]
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_play, args=(theirs, act, args), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return int(self.process.pid)

    def tell(self, word: Any = "go on") -> None:
        self.pipe.send(word)

    def hear(self) -> Any:
        """Wait for the next that it says, or for what its function returns."""
        if not self.pipe.poll(PATIENCE):
            raise TimeoutError(f"nothing is heard of {self.process}")
        try:
            kind, word = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise Died(f"{self.process} ended without a word") from None
        if kind == "raised":
            raise AssertionError(f"a child raised\n{word}")
        return word

    def expect(self, word: Any) -> None:
        heard = self.hear()
        assert heard == word, heard

    def last_word(self) -> Any:
        """Wait for what its function returns."""
        assert self.join() == 0
        return self.hear()

    def await_stopped(self) -> None:
        """Wait until SIGSTOP has stopped all of it."""
        until = time.monotonic() + PATIENCE
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until, f"{self.process} does not stop"
            time.sleep(0.001)

    def stop(self) -> None:
        """SIGSTOP: whatever locks it has, it keeps."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more once this returns."""
        with suppress(ProcessLookupError):  # it has ended, and been buried, already
            os.kill(self.pid, signal.SIGKILL)
        self.join()

    def join(self) -> int | None:
        """Wait for its end; its exit code, negative for a signal."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"{self.process} does not end"
        return int(self.process.exitcode)


class _Queue(logging.Handler):
    """Hears of each verb that begins to wait: the registry logs it."""

    def __init__(self, line: Line, number: int) -> None:
        super().__init__(logging.INFO)
        self._line, self._left = line, number

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("waiting for"):
            self._left -= 1  # under the handler's lock
            if self._left == 0:
                self._line.say("waiting")


def say_when_waiting(line: Line, number: int = 1) -> None:
    """Say "waiting" once so many verbs of this process wait for another's preparation."""
    logger = logging.getLogger("registry")
    logger.setLevel(logging.INFO)
    logger.handlers = [_Queue(line, number)]  # instead of an earlier one


class Crew:
    """The children of one test."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, act: Callable[..., Any], *args: Any, method: str = "forkserver") -> Child:
        child = Child(method, act, args)
        self._children.append(child)
        return child

    def bury(self, child: Child) -> list[Any]:
        """Kill one and forget it; answers, or raises, what it still had to say."""
        self._children.remove(child)
        child.kill()
        words = []
        try:
            with suppress(Died):
                while True:
                    words.append(child.hear())
            return words
        finally:
            child.process.close()
            child.pipe.close()

    def dismiss(self) -> None:
        """End whoever is still there."""
        for child in self._children:
            child.kill()
            child.process.close()
            child.pipe.close()


def first_of(children: list[Child]) -> Child:
    """Wait until one of them says something, or ends."""
    ready = wait([child.pipe for child in children], PATIENCE)
    assert ready, "nothing is heard of any of them"
    return next(child for child in children if child.pipe is ready[0])


def _play(pipe: Connection, act: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        answer = act(Line(pipe), *args)
    except Exception:
        pipe.send(("raised", traceback.format_exc()))
    else:
        pipe.send(("says", answer))
