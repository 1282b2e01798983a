"""A backend for C: compile to a shared object with the system's compiler, and call its functions.

python examples/c_backend.py

`Host(cache, "c_backend")` compiles C source with `cc` in one worker process, and calls the
result in another. A function gets integers (`long long`) and floats (`double`), and returns a `long
long`, or a `double` if the request says so:

    {"call": "hypotenuse", "args": [3.0, 4.0], "returns": "double"}

A compiler error or crash, an endless loop, a call that is killed by a signal: each ends only its
own job, and the next one works. The code is NOT confined otherwise: it may do anything that its
user may do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from registry import InvalidCandidate, InvalidParams, PossiblyInvalid, PrepareError

DEFAULT_FLAGS = ["-O2"]
# A missing symbol is an error now, not the death of a job later.
SHARED = ["-shared", "-fPIC", "-Wl,-z,defs"]
TYPES: dict[str, Any] = {"long long": ctypes.c_longlong, "double": ctypes.c_double}


def identity(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what a shared object depends on besides its source: compiler, target, C library, flags.

    NOT on the headers that the source includes: they belong to the compiler and the library. And
    `-march=native` means one thing on one machine, and a cache belongs to one machine.
    """
    return {"backend": "cc", **_compiler(), "flags": _flags(params)}


def prepare(code: bytes, params: Mapping[str, Any]) -> bytes:
    """Compile C source; raises `PrepareError` with what the compiler says."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.so")
        options = [*_flags(params), *SHARED, "-o", str(made), "-x", "c", "-", "-lm"]
        compiling = _run_cc(options, code)
        if compiling.returncode:
            said = compiling.stderr.decode(errors="replace") or "the compiler gave no reason"
            # A compiler that was killed may succeed next time; one that refuses the code will not.
            raise PrepareError(said, deterministic=compiling.returncode > 0)
        return made.read_bytes()


def execute(path: Path, request: Mapping[str, Any]) -> int | float:
    """Call a function of the shared object; raises `InvalidCandidate` if there is none."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise PossiblyInvalid(str(error), kind="corrupted_artifact") from None
    try:
        function = getattr(library, request["call"])
    except AttributeError as error:
        raise InvalidCandidate(str(error)) from None
    function.restype = TYPES[request.get("returns", "long long")]
    result: int | float = function(*map(_as_c, request.get("args", [])))
    return result


def _as_c(value: int | float) -> Any:
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_longlong(value)


def _flags(params: Mapping[str, Any]) -> list[str]:
    """Read the only parameter; an unknown one would change nothing, so it is refused."""
    unknown = set(params) - {"flags"}
    if unknown:
        raise InvalidParams(f"there is no parameter {min(unknown)!r}; there is flags, a list")
    return [str(flag) for flag in params.get("flags", DEFAULT_FLAGS)]


@cache
def _compiler() -> Mapping[str, str]:
    return {
        "version": _ask("--version"),
        "target": _ask("-dumpmachine"),
        "libc": " ".join(platform.libc_ver()),
    }


def _ask(option: str) -> str:
    answer = _run_cc([option])
    answer.check_returncode()
    return answer.stdout.decode().splitlines()[0]


def _run_cc(options: list[str], source: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the same compiler in any environment, also in a worker, which has none."""
    found = shutil.which("cc", path=os.defpath)
    if found is None:
        raise FileNotFoundError(f"there is no C compiler: no cc in {os.defpath}")
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TMPDIR": tempfile.gettempdir()}
    return subprocess.run([found, *options], input=source, capture_output=True, env=environment)


SOURCE = b"""
#include <math.h>

double hypotenuse(double a, double b) { return sqrt(a * a + b * b); }

/* How many steps until 1 is reached, for the number below the limit that takes the most. */
long long collatz(long long limit) {
    long long longest = 0;
    for (long long start = 1; start < limit; start++) {
        long long steps = 0;
        for (long long n = start; n != 1; n = n % 2 ? 3 * n + 1 : n / 2) steps++;
        if (steps > longest) longest = steps;
    }
    return longest;
}
"""


async def main() -> None:
    """Compile once, call twice; and show that an endless loop ends only its own job."""
    from registry import AsyncRegistry
    from registry.host import Host

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncRegistry(Path(folder, "cache")) as cache:
            async with Host(cache, "c_backend") as host:
                steps = await host.execute(SOURCE, {}, {"call": "collatz", "args": [100_000]})
                print(f"{steps} steps")
                request = {"call": "hypotenuse", "args": [3.0, 4.0], "returns": "double"}
                print(await host.execute(SOURCE, {}, request))
                try:
                    request = {"call": "collatz", "args": [2**40]}
                    await host.execute(SOURCE, {}, request, timeout=timedelta(seconds=0.5))
                except InvalidCandidate as error:
                    print(f"{error.kind}: {error}")
            print(f"{(await cache.stats()).prepared_count} artifact")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    asyncio.run(main())
