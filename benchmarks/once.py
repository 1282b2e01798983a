"""Eight processes need the same artifact at once: how often is it compiled, and what is a hit?

gcc compiles a C file, through a script that counts. Each contestant starts with an empty cache in
each round. Then the same processes ask again, one after the other. Caches of a Python function
(`functools.cache`, joblib, diskcache, `Registry.artifact`) return the bytes of the object file;
`get_or_prepare` returns its path; ccache is a process for each call and writes the file.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TypeAlias

from processes.crew import Child, Line

from benchmarks import rivals
from benchmarks.contest import spread
from benchmarks.report import Options, Report, crew, new_cache
from registry import ArtifactId, Registry

PROCESSES = 8
HITS = {"ccache": 5}
FUNCTION = "int f{n}(int a) {{ for (int i = 0; i < a; i++) a ^= (a << {n} % 31) * i; return a; }}"
SOURCE = "\n".join(FUNCTION.format(n=n) for n in range(80))
COUNTING = """#!/bin/sh
case " $* " in *" -E "*) ;; *) echo compiled >> "$COMPILED" ;; esac
exec gcc "$@"
"""
Get: TypeAlias = Callable[[str], object]


def compiled(source: str, *through: str) -> bytes:
    """Compile a file, into a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "unit.o")
        compiler = [*through, os.environ["COUNTING"], "-O2", "-c"]
        subprocess.run([*compiler, source, "-o", target], check=True)
        return target.read_bytes()


def through_none(source: str) -> bytes:
    return compiled(source)


def by_get_or_prepare(folder: Path) -> Get:
    cache = Registry(folder)
    unit = ArtifactId.of(SOURCE.encode())
    return lambda source: cache.get_or_prepare(unit, lambda: compiled(source))


def by_artifact(folder: Path) -> Get:
    return Registry(folder).artifact(version="gcc", name="compiled")(through_none)


def by_functools(_folder: Path) -> Get:
    return functools.cache(compiled)


def by_joblib(folder: Path) -> Get:
    get: Get = rivals.joblib.Memory(folder, verbose=0).cache(through_none)
    return get


def by_diskcache(folder: Path) -> Get:
    get: Get = rivals.diskcache.Cache(str(folder)).memoize(name="compiled")(compiled)
    return get


def by_barrier(folder: Path) -> Get:
    """As diskcache's documentation tells: look, wait for the lock, look again."""
    cache = rivals.diskcache.Cache(str(folder))
    remember = cache.memoize(name="compiled")
    locked = rivals.diskcache.barrier(cache, rivals.diskcache.Lock, name="lock")
    get: Get = remember(locked(remember(compiled)))
    return get


def by_ccache(folder: Path) -> Get:
    os.environ |= {"CCACHE_DIR": str(folder), "CCACHE_COMPILERTYPE": "gcc"}
    return lambda source: compiled(source, "ccache")


CONTESTANTS: dict[str, Callable[[Path], Get]] = {
    "registry, `get_or_prepare`": by_get_or_prepare,
    "registry, `Registry.artifact`": by_artifact,
    "functools.cache": by_functools,
    "joblib.Memory": by_joblib,
    "diskcache": by_diskcache,
    "diskcache with its barrier": by_barrier,
    "ccache": by_ccache,
}


def here() -> list[str]:
    """The contestants that are installed."""
    missing = {"joblib": rivals.joblib, "diskcache": rivals.diskcache}
    absent = [name for name, module in missing.items() if module is None]
    absent += [name for name in ("ccache",) if shutil.which(name) is None]
    return [name for name in CONTESTANTS if not name.startswith(tuple(absent))]


def asks(line: Line, name: str, folder: Path, tools: Path) -> None:
    """Get it once with all others, then again and again alone."""
    os.environ |= {"COUNTING": str(tools / "counting"), "COMPILED": str(tools / "compiled")}
    get, hits, source = CONTESTANTS[name](folder), HITS.get(name, 500), str(tools / "unit.c")
    line.say("open")
    line.hear()
    began = time.monotonic()
    get(source)
    line.say(time.monotonic() - began)
    line.hear()
    get(source)
    began = time.perf_counter()
    for _ in range(hits):
        get(source)
    line.say((time.perf_counter() - began) / hits)


@contextmanager
def toolbox() -> Iterator[Path]:
    """A folder with the compiler that counts, and with what it compiles."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "unit.c").write_text(SOURCE)
        (Path(folder) / "counting").write_text(COUNTING)
        (Path(folder) / "counting").chmod(0o755)
        yield Path(folder)


def ask(name: str) -> tuple[int, float, float]:
    """Let all processes ask one contestant: compilations, seconds until the last, one hit."""
    with ExitStack() as stack:
        tools, cache = stack.enter_context(toolbox()), stack.enter_context(new_cache())
        started = stack.enter_context(crew())
        children: list[Child] = [started.start(asks, name, cache, tools) for _ in range(PROCESSES)]
        for child in children:
            child.expect("open")
        for child in children:
            child.tell()
        until = max(child.hear() for child in children)
        hits = []
        for child in children:
            child.tell()
            hits.append(child.hear())
        return len((tools / "compiled").read_text().split()), until, median(hits)


def measure(options: Options) -> Report:
    """Measure all in turn."""
    head = ["", "compilations", "until all 8 have it", "a hit"]
    report = Report(f"{PROCESSES} processes need the same artifact at once", head)
    if shutil.which("gcc") is None:
        report.notes.append("gcc is not installed, and nothing was measured.")
        return report
    rounds = [{name: ask(name) for name in here()} for _ in range(options.rounds(7, 1))]
    for name in rounds[0]:
        counts, untils, hits = (
            list(each) for each in zip(*(it[name] for it in rounds), strict=True)
        )
        report.rows.append([name, f"{median(counts):.0f}", spread(untils), spread(hits)])
    most = max(each[name][0] for each in rounds for name in each if name.startswith("registry"))
    report.promise(f"registry compiles once ({most})", most == 1)
    report.notes += [
        f"{name} is not installed, and left out." for name in CONTESTANTS.keys() - rounds[0].keys()
    ]
    return report
