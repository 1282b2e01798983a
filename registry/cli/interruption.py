"""How a person or a supervisor stops the command.

The first SIGINT or SIGTERM arrives as a KeyboardInterrupt: what is open is closed on its way out,
which gives claims back without a failure. The second one kills: then the kernel drops our lock,
and whoever needs the artifact takes the claim over at once.
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
    """Handle the signals that stop the command, from now on; one that is ignored stays ignored."""

    def __init__(self) -> None:
        self._arrived = signal.SIGINT
        self._handled = [each for each in _SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
        for each in self._handled:
            signal.signal(each, self._arrive)

    def leave(self) -> NoReturn:
        """Exit as one stopped by the signal that came.

        At once, without the interpreter's farewell: a thread may still be in native code, which
        runs on and cannot be asked to end.
        """
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(128 + self._arrived)

    def _arrive(self, number: int, _frame: FrameType | None) -> NoReturn:
        self._arrived = signal.Signals(number)
        for each in self._handled:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt
