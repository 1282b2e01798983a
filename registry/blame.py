"""Which exceptions of a `prepare` are failures to remember, and which are a bug of the program.

A failure says something about the code: it will fail again. A bug says something about the program
that prepares it: the next edit repairs it, and an edit must not wait for a retry.
"""

from __future__ import annotations

import os
import re
from opcode import opmap
from typing import TypeGuard

from registry.errors import (
    FunctionRefused,
    HandleClosed,
    InvalidData,
    InvalidId,
    InvalidParams,
    InvalidSetting,
    PrepareError,
    WrongLoop,
)
from registry.shortage import is_nobodys_failure

__all__ = ["VARIABLE", "is_own_bug", "is_remembered", "remembers_failures"]

VARIABLE = "REGISTRY_REMEMBER_FAILURES"
_OFF = frozenset({"0", "no", "off", "false"})
# Python's messages if the arguments of a call do not fit: for functions in Python and in C, and
# from `inspect.Signature.bind`.
_WRONG_CALL = re.compile(
    r"takes .*\barguments?\b|missing (a |\d+ )?required|required argument|"
    r"unexpected keyword argument|invalid keyword argument|multiple values for|"
    r"positional-only arguments? passed|too many positional arguments|"
    r"expected (exactly |at least |at most )?\d+ arguments?|is not callable|"
    r"an artifact is published as"  # our own
)
# Who raises such errors for the calls of others. Elsewhere a `raise` tells of what is compiled.
_CHECKERS = frozenset({"inspect", "registry.verbs.publish"})
_RAISE = opmap["RAISE_VARARGS"]
_BEGINNING = 1000  # characters; what Python says of a call is not longer
_MISUSE = (
    FunctionRefused
    | HandleClosed
    | InvalidData
    | InvalidId
    | InvalidParams
    | InvalidSetting
    | WrongLoop
)


def is_own_bug(error: BaseException | None) -> bool:
    """Whether an exception shows a bug of the program, not a fault of what it prepares.

    ImportError, NameError, Python's own SyntaxErrors (not the errors of parsers that derive from
    it, such as that of XML), a TypeError of a call whose arguments do not fit (not one that a
    compiler raises, with words like those), a misuse of `registry`, and a group of nothing else. A
    `PrepareError` never is one.
    """
    if isinstance(error, PrepareError):
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_own_bug, error.exceptions))
    if type(error) in (SyntaxError, IndentationError, TabError):
        return True
    if type(error) is TypeError:
        return _is_wrong_call(error)
    return isinstance(error, ImportError | NameError | _MISUSE)


def _is_wrong_call(error: TypeError) -> bool:
    try:
        beginning = str(error)[:_BEGINNING]
    except Exception:  # noqa: BLE001 - what it is made of cannot be written as text
        return False
    return bool(_WRONG_CALL.search(beginning)) and not _is_deliberate(error)


def _is_deliberate(error: TypeError) -> bool:
    """Whether a `raise` statement made the error; Python itself raises at a call."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__") in _CHECKERS:
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == _RAISE


def is_remembered(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether an exception of a preparation is stored as a failure of the artifact."""
    return (
        isinstance(error, Exception)
        and not is_nobodys_failure(error)
        and not is_own_bug(error)
        and remembers_failures()
    )


def remembers_failures() -> bool:
    """Whether this process stores failures, and respects stored ones.

    Asked each time: a test, or a cell of a notebook, may change it. Other processes go on.
    """
    return os.environ.get(VARIABLE, "").strip().lower() not in _OFF
