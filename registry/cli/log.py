"""Write the library's log to the terminal: which process we wait for, what is unusual."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from registry.cli.options import Options
from registry.cli.output import say, to_json, visible

__all__ = ["told"]


@contextmanager
def told(options: Options) -> Iterator[None]:
    """Write the library's log to stderr meanwhile; with --json or --quiet only warnings."""
    logger, handler = logging.getLogger("registry"), _ToStderr(options)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _ToStderr(logging.Handler):
    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        message, event = record.getMessage(), getattr(record, "event", None)
        if record.levelno < logging.WARNING:
            if event == "waiting" and not (self._options.json or self._options.quiet):
                say(visible(message))
        elif self._options.json:
            say(to_json({"warning": {"event": event, "message": message}}))
        else:
            say("warning:", visible(message))
