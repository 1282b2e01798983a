"""Stop the command by a signal.

The first SIGINT or SIGTERM raises KeyboardInterrupt: everything open is closed, and claims are
released without a failure. The second one kills the process: the kernel drops its lock, and the
next process that needs the artifact takes the claim over at once.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

__all__ = ["Interruption"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Handle the signals that stop the command; an ignored signal stays ignored."""

    def __init__(self) -> None:
        self._arrived = signal.SIGINT
        self._handled = [each for each in _SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
        for each in self._handled:
            signal.signal(each, self._arrive)

    def leave(self) -> NoReturn:
        """Exit with the code of the signal that came.

        At once, without the interpreter's cleanup: a thread may still run native code, which
        cannot be interrupted.
        """
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it
                stream.flush()
        os._exit(128 + self._arrived)

    def _arrive(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._arrived = signal.Signals(number)
        for each in self._handled:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt
