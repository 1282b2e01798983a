"""What does it cost to need and load a compiled module, compared with loading its file?

Modules whose compiled forms have about 0.7, 2.4 and 30 MB. Loading is `deserialize_file`, which
maps the file. The control gets its path; the registry finds it. Both are also measured for the
first time in a new process, whose handle is open, but which has to compute the checksum. Also
measured: wasmtime's own cache (`Config.cache`), which has no limit, and compiling.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from processes.crew import Line

from benchmarks.contest import Contestant, Taken, contest, hot, ratio, spread
from benchmarks.report import Options, Report, crew, new_cache
from registry import ArtifactId, Registry
from registry.wasm.compiler import new_engine

try:
    import wasmtime
except ImportError:
    wasmtime = None

LINES = 1000
SIZES = {"0.7 MB": 19, "2.4 MB": 66, "30 MB": 825}  # so many functions of 1,000 trials each
HOT_MOST, FIRST_MOST, CACHE_LEAST = 1.15, 2.0, 10.0
SUMMED_UP = ("0.7 MB", "2.4 MB")  # the larger one takes what reading it takes


@cache
def unrolled() -> ModuleType:
    """The example that writes code that is slow to compile."""
    import importlib.util

    path = Path(__file__).parent.parent / "examples" / "unrolled.py"
    spec = importlib.util.spec_from_file_location("unrolled", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(functions: int) -> bytes:
    """Write a module of so many functions, each of which tests divisors."""
    primes = [prime for prime in unrolled().primes(2**16) if prime > 2][:LINES]
    trials = "".join(map(unrolled().trial, primes))
    bodies = [
        f'(func (export "f{number}") (param $n i32) (result i32)'
        f"(block $prime (block $composite {trials} (br $prime)) (return (i32.const {number})))"
        "(i32.const 1))"
        for number in range(functions)
    ]
    return bytes(wasmtime.wat2wasm(f"(module {''.join(bodies)})"))


def cached_by_wasmtime(stack: ExitStack) -> wasmtime.Engine:
    """An engine as ours, with wasmtime's own cache switched on."""
    folder = stack.enter_context(new_cache())
    folder.mkdir()
    (folder / "config.toml").write_text(f'[cache]\ndirectory = "{folder}"\n')
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.cache = str(folder / "config.toml")
    return wasmtime.Engine(config)


@dataclass
class Module:
    """A module compiled, as a file and in a cache."""

    wasm: bytes
    base: Path
    compiling: float = 0.0

    def __post_init__(self) -> None:
        began = time.perf_counter()
        compiled = bytes(wasmtime.Module(new_engine(), self.wasm).serialize())
        self.compiling = time.perf_counter() - began
        self.base.mkdir()
        self.path.write_bytes(compiled)
        with Registry(self.cache) as registry:
            registry.get_or_prepare(ArtifactId.of(self.wasm), lambda: compiled)

    @property
    def path(self) -> Path:
        return self.base / "by hand.cwasm"

    @property
    def cache(self) -> Path:
        return self.base / "cache"


def contestants(stack: ExitStack, module: Module, times: int) -> dict[str, Contestant]:
    """The contestants that load repeatedly in one process."""
    engine, own = new_engine(), cached_by_wasmtime(stack)
    registry = stack.enter_context(Registry(module.cache))
    known, path = ArtifactId.of(module.wasm), os.fspath(module.path)

    def again(work: Callable[[], object]) -> Contestant:
        return lambda _: hot(lambda: [work() for _ in range(times)])

    return {
        "bare": again(lambda: wasmtime.Module.deserialize_file(engine, path)),
        "need": again(lambda: load(engine, registry, known)),
        "wasmtime's cache": again(lambda: wasmtime.Module(own, module.wasm)),
    }


def load(engine: wasmtime.Engine, registry: Registry, known: ArtifactId) -> object:
    """Need an artifact and load it."""
    artifact = registry.need(known)
    assert artifact is not None
    return wasmtime.Module.deserialize_file(engine, os.fspath(artifact.path or ""))


def loads_bare(_line: Line, module: Module) -> float:
    """Time the first load in a new process."""
    engine, path = new_engine(), os.fspath(module.path)
    began = time.perf_counter()
    wasmtime.Module.deserialize_file(engine, path)
    return time.perf_counter() - began


def loads(_line: Line, module: Module) -> float:
    """Time the first need and load in a new process."""
    engine, known = new_engine(), ArtifactId.of(module.wasm)
    with Registry(module.cache) as registry:
        began = time.perf_counter()
        load(engine, registry, known)
        return time.perf_counter() - began


def first_times(module: Module, rounds: int) -> dict[str, Taken]:
    """Time each the first time in a process."""
    taken = {"first bare": Taken(), "first need": Taken()}
    with crew() as started:
        for _ in range(rounds):
            for act, one in zip((loads_bare, loads), taken.values(), strict=True):
                child = started.start(act, module)
                one.clock.append(child.hear())
                started.bury(child)
    return taken


def measure(options: Options) -> Report:
    """Measure each size; `--quick` leaves out the larger ones."""
    ways = ["bare", "need", "wasmtime's cache", "compiling", "first bare", "first need"]
    report = Report("What does it cost to need and load a module?", ["", *ways])
    if wasmtime is None:
        report.notes.append("wasmtime is not installed: `pip install '.[wasm]'`.\n")
        return report
    for size, functions in SIZES.items():
        if not options.quick or size == "0.7 MB":
            _measure(report, size, functions, options)
    return report


def _measure(report: Report, size: str, functions: int, options: Options) -> None:
    times = 2 if functions > 100 else 5
    with ExitStack() as stack:
        module = Module(code(functions), stack.enter_context(new_cache()))
        named = contestants(stack, module, times)
        taken = contest(named, rounds=options.rounds(20, 3), times=times)
        first = first_times(module, options.rounds(10, 2))
    hot_, cached = taken["need"].clock, taken["wasmtime's cache"].clock
    row = [spread(one.clock) for one in (*taken.values(), *first.values())]
    report.rows.append([size, *row[:3], f"{module.compiling:.2f} s", *row[3:]])
    got = ratio(hot_, taken["bare"].clock)
    report.promise(f"{size}: at most {HOT_MOST} x bare ({got:.2f} x)", got <= HOT_MOST)
    if size in SUMMED_UP:
        got = ratio(first["first need"].clock, first["first bare"].clock)
        words = f"{size}, first in a process: at most {FIRST_MOST:g} x bare ({got:.2f} x)"
        report.promise(words, got <= FIRST_MOST)
    got = ratio(cached, hot_)
    words = f"{size}: at least {CACHE_LEAST:g} x as fast as wasmtime's cache ({got:.1f} x)"
    report.promise(words, got >= CACHE_LEAST)
