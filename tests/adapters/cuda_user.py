"""A program of a user that calls cuda.core; NVRTC needs no GPU. Tells what was compiled."""

from __future__ import annotations

import sys
from typing import Any

from cuda.core import Program, ProgramOptions

from registry.cuda import ProgramCache

cache = ProgramCache()
puts: list[object] = []


class Counting(ProgramCache):
    """Counts what cuda.core stores: what it has compiled."""

    def __setitem__(self, key: Any, value: Any) -> None:
        puts.append(key)
        super().__setitem__(key, value)


def program(name: str) -> Program:
    code = f'extern "C" __global__ void {name}(float *a) {{ a[threadIdx.x] += 1; }}'
    return Program(code, "c++", ProgramOptions(arch="sm_90"))


if "mapping" in sys.argv:
    cache["a"] = b"text"
    assert cache["a"] == cache[b"a"] == b"text"
    cache["a"] = bytearray(b"other")
    assert cache.get("a") == b"other"
    assert len(cache) == 1
    del cache["a"]
    assert cache.get("a") is None
    for refused in (lambda: cache["a"], lambda: cache.__delitem__("a")):
        try:
            refused()
        except KeyError:
            continue
        raise AssertionError("no KeyError")
    cache.update({"a": b"1", "b": b"2"})
    cache.clear()
    assert len(cache) == 0
if "fails" in sys.argv:
    try:
        cache.compile(Program("no C at all", "c++", ProgramOptions(arch="sm_90")), "cubin")
    except Exception as error:
        print("failed as ever:", type(error).__name__)

counting = Counting()
if "wait" in sys.argv:
    print("ready", flush=True)
    sys.stdin.readline()
sizes = [len(counting.compile(program(f"k{n}"), "cubin").code) for n in range(4)]
plain = len(program("k0").compile("cubin", cache=counting).code)
assert plain == sizes[0]
print("compiled", len(puts), *sizes)
