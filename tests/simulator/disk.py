"""What a power cut leaves of a cache directory.

A file system keeps, for certain, what was synced, and of the rest whatever it likes. Here that is:

- the database and its -wal file as far as the last statement that synced it; beyond that, any part.
  (No simulated run is long enough for a checkpoint, so the -wal file only grows.)
- the bytes of each file that was synced; of another, any first part of them.
- the names in `artifacts/` as they were when the folder was last synced, and then any first part of
  what was done to them since, in order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from registry.effects import Effect, Rename, Run, Sync, SyncFolder, TakeIn, Unlink, Write

__all__ = ["Disk"]

Pick: TypeAlias = Callable[[int], int]  # one of so many


@dataclass(eq=False, slots=True)
class _Bytes:
    data: bytes
    synced: bool = False


class Disk:
    """Follow what is durable of one cache directory."""

    def __init__(self, cache: Path, files: Mapping[str, bytes]) -> None:
        self.cache = cache
        self._database = cache / "registry.db"
        self._wal = cache / "registry.db-wal"
        self._synced_wal = self._wal_size()
        self._durable = {name: _Bytes(data, synced=True) for name, data in files.items()}
        self._names = dict(self._durable)
        self._since: list[tuple[str, _Bytes | None]] = []  # a name, and what it stands for now

    def note(self, effect: Effect[Any], answer: Any, read: Callable[[str], bytes]) -> None:
        """Follow an effect that was performed."""
        match effect:
            case Run() if effect.statement.durable and answer:
                self._synced_wal = self._wal_size()
            case Write() | TakeIn():
                self._name(effect.name, _Bytes(read(effect.name)))
            case Sync():
                self._names[effect.name].synced = True
            case Rename():
                moved = self._names[effect.name]
                self._name(effect.name, None)
                self._name(effect.to, moved)
            case Unlink():
                self._name(effect.name, None)
            case SyncFolder():
                self._durable, self._since = dict(self._names), []

    def harm(self, name: str, data: bytes | None) -> None:
        """Follow a damage done from outside, which is as durable as can be."""
        for names in (self._names, self._durable):
            if data is None:
                names.pop(name, None)
            elif name in names:
                names[name] = _Bytes(data, synced=True)

    def cut(self, target: Path, pick: Pick) -> None:
        """Write what is left after a power cut into a new directory."""
        shutil.copytree(self.cache / "hosts", target / "hosts")
        for folder in ("artifacts", "workers"):
            os.mkdir(target / folder, 0o700)
        shutil.copy(self.cache / "cache.id", target)
        shutil.copy(self._database, target)
        kept = self._synced_wal + pick(self._wal_size() - self._synced_wal + 1)
        (target / "registry.db-wal").write_bytes(self._wal.read_bytes()[:kept])
        names = dict(self._durable)
        for name, file in self._since[: pick(len(self._since) + 1)]:
            _set(names, name, file)
        for name, file in names.items():
            left = file.data if file.synced else file.data[: pick(len(file.data) + 1)]
            (target / "artifacts" / name).write_bytes(left)

    def _name(self, name: str, file: _Bytes | None) -> None:
        self._since.append((name, file))
        _set(self._names, name, file)

    def _wal_size(self) -> int:
        return self._wal.stat().st_size if self._wal.exists() else 0


def _set(names: dict[str, _Bytes], name: str, file: _Bytes | None) -> None:
    names.pop(name, None)
    if file is not None:
        names[name] = file
