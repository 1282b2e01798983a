"""Triton's kernels, compiled once per machine: TRITON_CACHE_MANAGER=registry.triton:CacheManager.

Triton makes one manager for each compilation, asks it for a group of files (the stages of a kernel
and its metadata) or for one file (a launcher, the timings of the autotuner), and puts them after
a miss. A group is one artifact here, so that it is there whole or not at all.

Triton takes paths, and keeps them: files are unpacked into a folder of this process, which goes
with it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from registry.keyed import Keyed
from registry.process_handles import handle
from registry.world.chance import token_hex
from registry.world.own_folder import require_file_name

__all__ = ["CacheManager"]

_keyed = Keyed("triton")
_folders: dict[int, Path] = {}  # by process
_kept = ExitStack()


class _Files(Protocol):
    """What Triton's own manager does, which has what is overridden and dumped."""

    def get_file(self, filename: str) -> str | None: ...
    def put(self, data: Any, filename: str, binary: bool = True) -> str: ...
    def get_group(self, filename: str) -> dict[str, str] | None: ...
    def put_group(self, filename: str, group: dict[str, str]) -> Any: ...


class CacheManager:
    """What Triton asks for the files of one compilation.

    Overrides and dumps are Triton's own (`TRITON_OVERRIDE_DIR`, `TRITON_DUMP_DIR`). A miss claims,
    until the put, or until the manager is gone.
    """

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        self.key = key
        self._flight = _keyed.flight()
        self._own = _own_files(key, override, dump) if override or dump else None
        self._put: dict[str, bytes] = {}
        self._makes_group = False

    def get_group(self, filename: str) -> dict[str, str] | None:
        """Return the paths of a group's files by their names, or None: then compile."""
        if self._own:
            return self._own.get_group(filename)
        name = f"group {filename}"
        packed = self._flight.get(name, group=self.key, label=_label(filename))
        files = None if packed is None else _unpacked(packed)
        if packed is not None and files is None:  # of another version, or by another program
            _keyed.remove(name, group=self.key)
        self._makes_group = files is None
        return None if files is None else {it: self._write(it, files[it]) for it in files}

    def put_group(self, filename: str, group: dict[str, str]) -> str:
        """Store the files that were put as one group."""
        if self._own:
            return str(self._own.put_group(filename, group))
        from msgpack import packb  # type: ignore[import-untyped]

        files = {name: self._content(name, path) for name, path in group.items()}
        _keyed.put(f"group {filename}", packb(files), group=self.key, label=_label(filename))
        self._makes_group = False
        return filename

    def get_file(self, filename: str) -> str | None:
        """Return the path of a file, or None: then compile."""
        if self._own:
            return self._own.get_file(filename)
        data = self._put.get(filename)
        if data is None and not self._makes_group:
            data = self._flight.get(f"file {filename}", group=self.key, label=filename)
        return None if data is None else self._write(filename, data)

    def put(self, data: Any, filename: str, binary: bool = True) -> str:
        """Write a file, and store it unless it is of a group, which is stored as a whole."""
        if self._own:
            return self._own.put(data, filename, binary=binary)
        content = data if isinstance(data, bytes) else str(data).encode()
        self._put[filename] = content
        if not self._makes_group:
            _keyed.put(f"file {filename}", content, group=self.key, label=filename)
        return self._write(filename, content)

    def _content(self, name: str, path: str) -> bytes:
        return self._put[name] if name in self._put else Path(path).read_bytes()

    def _write(self, filename: str, data: bytes) -> str:
        folder = _folder() / blake2b(self.key.encode(), digest_size=16).hexdigest()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f".{token_hex(8)}"
        part.write_bytes(data)
        return str(part.replace(folder / filename))


def _own_files(key: str, override: bool, dump: bool) -> _Files:
    from triton.runtime.cache import FileCacheManager

    own: _Files = FileCacheManager(key, override=override, dump=dump)
    return own


def _label(filename: str) -> str:
    """The name of a kernel, by which its group is called as well."""
    return filename.removesuffix(".json")


def _unpacked(packed: bytes) -> dict[str, bytes] | None:
    """Unpack a group; None for what is none."""
    from msgpack import unpackb

    try:
        files = dict(unpackb(packed))
        for name, data in files.items():
            require_file_name(name)
            if not isinstance(data, bytes):
                return None
    except (ValueError, TypeError):  # of msgpack, and `InvalidData`
        return None
    return files


def _folder() -> Path:
    """Make the folder of this process: in the cache, else where temporary files are."""
    found = _folders.get(os.getpid())
    if found is None or not found.exists():
        try:
            found = _kept.enter_context(handle().scratch_folder())
        except Exception:  # noqa: BLE001 - the cache cannot be used; `Keyed` has said so
            found = Path(tempfile.mkdtemp(prefix="registry-triton-"))
            atexit.register(_remove, found, os.getpid())
        _folders[os.getpid()] = found
    return found


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
