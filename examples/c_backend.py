"""A backend for C: the system's compiler makes a shared object, whose functions are called.

python examples/c_backend.py

`Host(registry, "c_backend")` prepares C source with `cc` in one worker process, and calls what came
of it in another. A function is called with integers (`long long`) and floats (`double`), and gives
a `long long`, or a `double` if the request says so:

    {"call": "hypotenuse", "args": [3.0, 4.0], "returns": "double"}

A compiler's warning or crash, a call that loops or is killed by a signal: each ends its own job,
and the next one works. The code is NOT confined otherwise: it may do whatever its user may.
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
# What a shared object needs that is not there is an error now, not the end of a job later.
SHARED = ["-shared", "-fPIC", "-Wl,-z,defs"]
TYPES: dict[str, Any] = {"long long": ctypes.c_longlong, "double": ctypes.c_double}


def identity(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say what a shared object depends on besides its source: compiler, target, C library, flags.

    NOT on the headers that the source includes: they come and go with the compiler and the
    library. And `-march=native` is one thing on one machine, as a cache is.
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
            # One that was killed may well succeed another time; one that refuses will not.
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
    """Read the one parameter there is; an unknown one would change nothing, so it is refused."""
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
    """Run the compiler: the same one here, in any environment, and in a worker, which has none."""
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
    """Compile once, call twice; and see that a loop without end is only one job's end."""
    from registry import AsyncRegistry
    from registry.host import Host

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncRegistry(Path(folder, "cache")) as registry:
            async with Host(registry, "c_backend") as host:
                steps = await host.execute(SOURCE, {}, {"call": "collatz", "args": [100_000]})
                print(f"{steps} steps")
                request = {"call": "hypotenuse", "args": [3.0, 4.0], "returns": "double"}
                print(await host.execute(SOURCE, {}, request))
                try:
                    request = {"call": "collatz", "args": [2**40]}
                    await host.execute(SOURCE, {}, request, timeout=timedelta(seconds=0.5))
                except InvalidCandidate as error:
                    print(f"{error.kind}: {error}")
            print(f"{(await registry.stats()).prepared_count} artifact")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    asyncio.run(main())
