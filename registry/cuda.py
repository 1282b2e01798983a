"""A cache of compiled programs for cuda.core: one compilation per machine.

cache = registry.cuda.ProgramCache()
code = cache.compile(program, "cubin")  # or program.compile("cubin", cache=cache)
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, TypeAlias

from registry.errors import RegistryError
from registry.keyed import Keyed
from registry.process_handles import handle

__all__ = ["ProgramCache"]

Key: TypeAlias = str | bytes
_missing: ImportError | None = None
try:
    from cuda.core import ObjectCode
    from cuda.core.utils import ProgramCacheResource
except ImportError as error:  # told when one is made: tools import all modules
    _missing, ProgramCacheResource = error, object


class ProgramCache(ProgramCacheResource):  # type: ignore[misc]
    """A `ProgramCacheResource` of cuda.core in a cache, by default that of the command.

    Given to `Program.compile` as `cache=` it shares what is compiled; so that processes also wait
    for each other, call its `compile` instead. It is bounded as the cache is. Nothing about the
    cache raises: it is a miss, and one warning. Raises `ImportError` without cuda.core 1.2.
    """

    def __init__(self, cache: str | os.PathLike[str] | None = None) -> None:
        if _missing is not None:
            raise ImportError("registry.cuda needs cuda.core: pip install cuda-core") from _missing
        self._cache = cache
        self._keyed = Keyed("cuda", cache)

    def compile(self, program: Any, target_type: str, **more: Any) -> Any:
        """Return `program.compile(target_type, cache=self, ...)`, compiled by one process.

        Others that miss the program meanwhile wait, and use the result. A compilation that fails
        raises here as ever, and keeps nobody waiting.
        """
        with self._keyed.flight():
            return program.compile(target_type, cache=self, **more)

    def __getitem__(self, key: Key) -> bytes:
        """Return the bytes of a key; raises KeyError."""
        found = self._keyed.get(_bytes(key))
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: Key, value: Any) -> None:
        """Store bytes, or the code of an `ObjectCode`; another value of the key is replaced."""
        named, data = _bytes(key), _code(value)
        if not self._keyed.put(named, data) and self._keyed.get(named) not in (None, data):
            self._keyed.remove(named)
            self._keyed.put(named, data)

    def __delitem__(self, key: Key) -> None:
        """Forget a key; raises KeyError."""
        if not self._keyed.remove(_bytes(key)):
            raise KeyError(key)

    def __len__(self) -> int:
        """How many programs are stored, by all processes; reads their list."""
        code = self._keyed.id("").code_hash
        with suppress(RegistryError):  # no cache is an empty one
            return sum(1 for _ in handle(self._cache).artifacts(code=code))
        return 0

    def clear(self) -> None:
        """Forget all programs, of all processes; what is being compiled stays."""
        self._keyed.forget()


def _bytes(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else bytes(key)


def _code(value: Any) -> bytes:
    if isinstance(value, ObjectCode):
        value = value.code
        if isinstance(value, str):  # it is in a file
            with open(value, "rb") as file:
                return file.read()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a program is bytes or an ObjectCode, not {type(value).__name__}")
