"""The recipes of docs/native.md: `native_recipes.py FOLDER CACHE` builds and uses each of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from registry import native

folder, cache = map(Path, sys.argv[1:3])
SHARED = ["-O2", "-shared", "-fPIC", "-isystem", "{include}"]


def with_cffi() -> int:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("int add(int a, int b);")
    ffi.set_source("_added", "static int add(int a, int b) { return a + b; }")
    source = folder / f"_added-{cffi.__version__}.c"
    if not source.exists():
        ffi.emit_c_code(str(source))
    command = ["gcc", *SHARED, str(source), "-o", "{output}"]
    module = native.extension("_added", command, inputs=[source], cache=cache)
    return module.lib.add(2, 3)


def with_pybind11() -> int:
    import pybind11

    source = folder / "bound.cpp"
    source.write_text(
        "#include <pybind11/pybind11.h>\n"
        'PYBIND11_MODULE(bound, m) { m.def("add", [](int a, int b) { return a + b; }); }\n'
    )
    flags = [*SHARED, "-std=c++17", "-fvisibility=hidden", "-isystem", pybind11.get_include()]
    module = native.extension(
        "bound",
        ["g++", *flags, str(source), "-o", "{output}"],
        inputs=[source],
        params={"pybind11": pybind11.__version__},
        cache=cache,
    )
    return module.add(2, 3)


def with_cython() -> int:
    import Cython

    source = folder / "cyadd.pyx"
    source.write_text("def add(int a, int b):\n    return a + b\n")
    script = (
        '"$0" -m cython -3 "$1" -o "$2/it.c" && '
        'gcc -O2 -shared -fPIC -isystem "$4" "$2/it.c" -o "$3"'
    )
    command = ["sh", "-c", script, sys.executable, str(source), "{folder}", "{output}", "{include}"]
    module = native.extension(
        "cyadd",
        command,
        inputs=[source],
        tools=[sys.executable, "gcc"],
        params={"cython": Cython.__version__},
        cache=cache,
    )
    return module.add(2, 3)


for recipe in (with_cffi, with_pybind11, with_cython):
    start = time.perf_counter()
    print(recipe.__name__, recipe(), f"{time.perf_counter() - start:.3f}")
