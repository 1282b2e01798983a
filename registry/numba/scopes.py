"""The flights around Numba's compilations, and what of a compilation only its caller knows.

Two functions of the same code may be compiled with other options (`fastmath`); and the wrapper of a
gufunc works only with the very function that it was linked to: both belong into the key.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from registry.keyed import Keyed
from registry.numba.fingerprint import NoFingerprint

__all__ = ["install", "options"]

_UNKNOWN = "unknown"
_options: ContextVar[str] = ContextVar("options", default=_UNKNOWN)


def options(base: str, *, strict: bool) -> str:
    """Return what the compilation that runs is made with.

    Where that is not known, raise `NoFingerprint` if `strict`, or for the wrapper of a gufunc; the
    file of a function shows it, too.
    """
    found = _options.get()
    if found == _UNKNOWN and (strict or base.startswith("guf-")):
        raise NoFingerprint(base)
    return found


def install(keyed: Keyed) -> None:
    """Wrap the functions of Numba that look a function up, compile it and save it."""
    from numba.core.ccallback import CFunc
    from numba.core.dispatcher import Dispatcher
    from numba.np.ufunc.ufuncbuilder import UFuncDispatcher
    from numba.np.ufunc.wrappers import _GufuncWrapper

    wrap = functools.partial(_wrap, keyed)
    wrap(Dispatcher, "compile", lambda it: (it.targetoptions, it.locals, it._compiler))  # noqa: SLF001
    wrap(CFunc, "compile", lambda it: (it._compiler.targetoptions, it._compiler.locals))  # noqa: SLF001
    wrap(UFuncDispatcher, "_compile_core", lambda _it, _sig, flags, local: (flags, local))
    wrap(_GufuncWrapper, "build", lambda it: it.fndesc.mangled_name)


def _wrap(keyed: Keyed, owner: Any, name: str, made_with: Callable[..., Any]) -> None:
    compile_own = getattr(owner, name)

    @functools.wraps(compile_own)
    def compile_in_flight(self: Any, *arguments: Any, **named: Any) -> Any:
        extra = arguments if name == "_compile_core" else ()
        before = _options.set(_text(made_with, self, *extra))
        try:
            with keyed.flight():
                return compile_own(self, *arguments, **named)
        finally:
            _options.reset(before)

    setattr(owner, name, compile_in_flight)


def _text(made_with: Callable[..., Any], *arguments: Any) -> str:
    """Options as text; with an address in it, it matches in this process only, and does no harm."""
    found = made_with(*arguments)
    if isinstance(found, str):
        return found
    return repr([_plain(it) for it in found])


def _plain(part: Any) -> Any:
    if isinstance(part, dict):
        return sorted((str(name), repr(it)) for name, it in part.items())
    if hasattr(part, "pipeline_class"):  # a compiler: which passes does it run?
        of = part.pipeline_class
        return f"{of.__module__}.{of.__qualname__}"
    return part.summary() if hasattr(part, "summary") else repr(part)
