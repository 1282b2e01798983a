"""A terminal with the command in it, as a person has it before them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.command import Command

__all__ = ["PATIENCE", "Terminal", "terminal"]

# Seconds until what must come has come.
PATIENCE = 60.0


class Terminal:
    """A terminal of some size with the command in it."""

    def __init__(self, command: Command, columns: int, *arguments: str, **environment: str) -> None:
        self._end, theirs = pty.openpty()
        self.resize(columns)
        environment = command.environment(**{"TERM": "xterm-256color", **environment})
        del environment["COLUMNS"]  # which would hide the terminal's own
        self.process = subprocess.Popen(
            command.line(*arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = b""

    def resize(self, columns: int) -> None:
        """Make it so wide."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def read_until(self, text: str, after: int = 0) -> int:
        """Read until a text has come; where it ends."""
        until = time.monotonic() + PATIENCE
        while (found := self.seen.find(text.encode(), after)) < 0:
            ready, _, _ = select.select([self._end], [], [], until - time.monotonic())
            assert ready, f"{text!r} did not come; {self.seen[after:]!r}"
            self.seen += os.read(self._end, 65536)
        return found + len(text.encode())

    def read_to_the_end(self) -> str:
        """Read until nobody writes to it any more; everything that came."""
        try:
            while chunk := os.read(self._end, 65536):
                self.seen += chunk
        except OSError:  # how Linux says that nobody has the other end any more
            pass
        return self.seen.decode()

    def close(self) -> None:
        """End what runs in it."""
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@contextmanager
def terminal(
    command: Command, columns: int, *arguments: str, **environment: str
) -> Iterator[Terminal]:
    """Run the command in a terminal, and close both at the end."""
    opened = Terminal(command, columns, *arguments, **environment)
    try:
        yield opened
    finally:
        opened.close()
