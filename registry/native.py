"""Compile a shared object or an extension module once per machine, with any command.

    library = ctypes.CDLL(native.build(
        ["gcc", "-O2", "-shared", "-fPIC", "add.c", "-o", "{output}"],
        inputs=["add.c"], name="libadd.so",
    ))

The key is the command as written, the content of all inputs, the identity of the tools (path,
content, `--version`), this machine's kind, and the environment variables that compilers read.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from registry.artifact import ArtifactId
from registry.errors import (
    CacheDirectoryRefused,
    DatabaseDamaged,
    DiskFull,
    InvalidData,
    NotARegistry,
    PreparationFailed,
    PrepareError,
    RegistryBusy,
    SchemaTooNew,
    SchemaTooOld,
    UnknownArtifact,
)
from registry.log import about, in_one_line, logger
from registry.process_handles import handle
from registry.shortage import is_death_by_shortage
from registry.world.own_folder import require_file_name

if TYPE_CHECKING:
    from registry.sync import Registry

__all__ = ["ENVIRONMENT", "build", "extension"]

StrPath: TypeAlias = str | os.PathLike[str]

# What compilers and linkers read; who names more gives `env=`.
ENVIRONMENT = (
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED", "LIBRARY_PATH"),
    *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH"),
    *("SOURCE_DATE_EPOCH", "SDKROOT"),
)
# A failure with these words is one of the machine: what is missing may be installed in a minute,
# and the key would not change.
_OF_THE_MACHINE = ("No such file or directory", "cannot find -l", "terminated program")
# What a shell says with: there is no such program.
_NO_PROGRAM = (126, 127)
# They tell which headers they have read, except those of the system, unless that is asked already.
_COMPILER = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-[\d.]+)?")
_ASKS = re.compile(r"(^| )-M")
_UNUSABLE = (
    *(CacheDirectoryRefused, DatabaseDamaged, DiskFull, NotARegistry, RegistryBusy),
    *(SchemaTooNew, SchemaTooOld),
)
_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
# A message of a compiler may be of any length; the first errors are what counts.
_LONGEST_MESSAGE = 4000

# Files in use, by process: two paths of one library would be loaded as two.
_pins: dict[tuple[int, Path, ArtifactId, str], tuple[Path, AbstractContextManager[Path]]] = {}
_identities: dict[tuple[str, int, int, int], list[str]] = {}


def build(
    command: Sequence[StrPath],
    *,
    inputs: Iterable[StrPath],
    name: str,
    tools: Sequence[str] = (),
    env: Iterable[str] = (),
    params: Mapping[str, Any] = _NO_PARAMS,
    cache: StrPath | None = None,
    timeout: timedelta | None = None,
) -> Path:
    """Run a command once per machine, and return the path of the file that it makes.

    In the command "{output}" stands for that file, "{folder}" for an empty folder around it, and
    "{include}" for Python's headers. `inputs` are all files that it reads, headers too; a folder
    stands for all files beneath it. `tools` are programs that the command starts itself, `env` the
    variables that matter besides `ENVIRONMENT`, `params` whatever else changes the result (the
    version of a package). The path ends in `name`, and stays while this process lives, whatever
    is pruned or removed; equal calls return the same path.

    Raises `PreparationFailed` with the words of the compiler; failures are remembered, except for
    a program, library or header that is missing. Raises `InvalidData` for an input that cannot be
    read, and for a header that gcc or clang has read (with several sources: for the last one) and
    that is not among the inputs. If the cache cannot be used, it warns, and compiles for this
    process alone.
    """
    job = _Job(command, inputs, name, tools, env, params)
    try:
        return _pinned(handle(cache), job, timeout)
    except _UNUSABLE as error:
        logger.warning(
            "%s is compiled without the cache: %s",
            name,
            in_one_line(error),
            extra=about("native_failed", error=str(error), error_kind=type(error).__name__),
        )
        return job.run(Path(_temporary_folder()))


def extension(
    name: str,
    command: Sequence[StrPath],
    *,
    inputs: Iterable[StrPath],
    tools: Sequence[str] = (),
    env: Iterable[str] = (),
    params: Mapping[str, Any] = _NO_PARAMS,
    cache: StrPath | None = None,
    timeout: timedelta | None = None,
) -> ModuleType:
    """Build an extension module as `build` does, import it under `name`, and return it.

    The key holds the version and the ABI of this Python too.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    python = [sys.version, suffix, sysconfig.get_path("include")]
    path = build(
        command,
        inputs=inputs,
        name=f"{name.rpartition('.')[2]}{suffix}",
        tools=tools,
        env=env,
        params={"params": dict(params), "python": python, "module": name},
        cache=cache,
        timeout=timeout,
    )
    return _imported(name, path)


class _Job:
    """One command, and all that its result depends on."""

    def __init__(
        self,
        command: Sequence[StrPath],
        inputs: Iterable[StrPath],
        name: str,
        tools: Sequence[str],
        env: Iterable[str],
        params: Mapping[str, Any],
    ) -> None:
        if isinstance(command, str | bytes) or isinstance(inputs, str | bytes):
            raise TypeError("a command and its inputs are sequences, not one text")
        require_file_name(name)
        self.name = name
        self._command = [os.fspath(part) for part in command]
        if not any("{output}" in part for part in self._command):
            raise InvalidData(f"the command of {name} names no {{output}}, the file that it makes")
        self._inputs = [os.fspath(it) for it in inputs]
        self._read = _content(self._inputs)
        what = {
            "command": self._command,
            "inputs": [[it, digest] for it, digest, _ in self._read],
            "name": name,
            "tools": [_identity(it) for it in (self._command[0], *tools)],
            "machine": [platform.machine(), *platform.libc_ver()],
            "env": {it: os.environ.get(it) for it in (*ENVIRONMENT, *env)},
            "params": dict(params),
        }
        self.id = ArtifactId.of(b"registry/native/1", what)

    def run(self, folder: Path) -> Path:
        """Run the command in a folder; return the file that it made."""
        output = folder / self.name
        done = self._started(folder, output)
        if done.returncode != 0:
            raise self._failure(done)
        if not output.is_file():
            raise PrepareError(
                f"{self._words()[:200]} made no file {self.name}", kind="compilation"
            )
        self._refuse_unknown(folder / "dependencies")
        if _content(self._inputs) != self._read:
            raise PrepareError(
                f"an input of {self.name} changed while it was compiled; build it again",
                remembered=False,
            )
        return output

    def _started(self, folder: Path, output: Path) -> subprocess.CompletedProcess[str]:
        include = sysconfig.get_path("include")
        given = {"{output}": str(output), "{folder}": str(folder), "{include}": include}
        command = [_filled(part, given) for part in self._command]
        if _COMPILER.fullmatch(os.path.basename(command[0])) and not _ASKS.search(self._words()):
            # Not by $DEPENDENCIES_OUTPUT: with it gcc only warns of a header that is missing.
            command += ["-MMD", "-MF", str(folder / "dependencies")]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise PrepareError(
                f"{command[0]} cannot be started: {error.strerror}", remembered=False
            ) from error

    def _failure(self, done: subprocess.CompletedProcess[str]) -> PrepareError:
        words = (done.stderr.strip() or done.stdout.strip())[:_LONGEST_MESSAGE]
        is_here = is_death_by_shortage(-done.returncode, words.encode()) or (
            done.returncode in _NO_PROGRAM or any(it in words for it in _OF_THE_MACHINE)
        )
        return PrepareError(
            f"{self._words()[:200]} ended with {done.returncode}:\n{words}",
            kind="compilation",
            deterministic=False,
            remembered=not is_here,
        )

    def _refuse_unknown(self, listed: Path) -> None:
        """Refuse a header that may change without the key."""
        if not listed.exists():
            return
        python = os.path.realpath(sysconfig.get_path("include"))
        known = {os.path.realpath(it) for it, _, _ in self._read}
        rules = listed.read_text(errors="surrogateescape").replace("\\\n", " ").splitlines()
        read = [it for rule in rules for it in shlex.split(rule.partition(": ")[2])]
        made = os.path.realpath(listed.parent)
        unknown = [
            it
            for it in dict.fromkeys(map(os.path.realpath, read))
            if it not in known and not it.startswith((f"{python}/", f"{made}/"))
        ]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise InvalidData(
                f"{self.name} was compiled from {', '.join(unknown[:3])}{more}, which is not among "
                "its inputs: name it there, or give the folder of an installed package as "
                "`-isystem` and its version in `params`"
            )

    def _words(self) -> str:
        return in_one_line(shlex.join(self._command))


# --- the file, while this process lives ---------------------------------------------------------


def _pinned(registry: Registry, job: _Job, timeout: timedelta | None) -> Path:
    key = (os.getpid(), registry.cache_dir, job.id, job.name)
    known = _pins.get(key)
    if known is not None and known[0].exists():
        return known[0]
    _pins.pop(key, None)
    pin, path = _new_pin(registry, job, timeout)
    kept, _ = _pins.setdefault(key, (path, pin))
    if kept is not path:  # another thread was first
        pin.__exit__(None, None, None)
    return kept


def _new_pin(
    registry: Registry, job: _Job, timeout: timedelta | None
) -> tuple[AbstractContextManager[Path], Path]:
    while True:
        with ExitStack() as stack:
            prepare = partial(_in_a_folder, registry, job, stack)
            registry.get_or_prepare(job.id, prepare, timeout=timeout, label=f"native {job.name}")
        pin = registry.pinned(job.id, name=job.name)
        try:
            return pin, pin.__enter__()
        except UnknownArtifact:  # pruned or removed just now
            continue


def _in_a_folder(registry: Registry, job: _Job, stack: ExitStack) -> Path:
    return job.run(stack.enter_context(registry.scratch_folder()))


def _temporary_folder() -> str:
    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(
        prefix="registry-native-", ignore_cleanup_errors=True
    )
    _temporary.append(folder)
    return folder.name


_temporary: list[tempfile.TemporaryDirectory[str]] = []


def _imported(name: str, path: Path) -> ModuleType:
    known = sys.modules.get(name)
    if known is not None and getattr(known.__spec__, "origin", None) == str(path):
        return known
    spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


# --- what the key is made of --------------------------------------------------------------------


def _content(inputs: list[str]) -> list[tuple[str, str, int]]:
    """The name, digest and time of change of each input; the time tells a change and back."""
    return [(it, *_read(it)) for given in inputs for it in _files(given)]


def _files(given: str) -> list[str]:
    if not os.path.isdir(given):
        return [given]
    within = (os.path.join(at, it) for at, _, names in os.walk(given) for it in names)
    return sorted(within)


def _read(path: str) -> tuple[str, int]:
    try:
        with open(path, "rb") as file:
            changed = os.fstat(file.fileno()).st_mtime_ns
            return blake2b(file.read(), digest_size=32).hexdigest(), changed
    except OSError as error:
        raise InvalidData(f"the input {path} cannot be read: {error.strerror}") from error


def _identity(tool: str) -> list[str]:
    """The path, the content and the version of a program; asked again once its file changes."""
    found = shutil.which(tool)
    if found is None:
        raise PreparationFailed(
            f"{tool} is not installed, or not in $PATH: install it, or name another compiler; "
            "nothing was stored"
        )
    path = os.path.realpath(found)
    stat = os.stat(path)
    key = (found, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if key not in _identities:
        _identities[key] = [found, path, _read(path)[0], _version(found)]
    return _identities[key]


def _version(found: str) -> str:
    try:
        done = subprocess.run(
            [found, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""  # its content is in the key


def _filled(part: str, given: Mapping[str, str]) -> str:
    for name, value in given.items():
        part = part.replace(name, value)
    return part
