"""The command `registry`: `main` is its entry point."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from registry.cli.interruption import Interruption

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `registry.cli.exits` lists them."""
    interruption = Interruption()
    try:
        # Imported here, so that Ctrl-C prints no traceback from the start.
        from registry.cli.entry import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        interruption.leave()
    except BrokenPipeError:
        # The reader closed the pipe. The rest of the buffer cannot be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
