"""Set a damaged database aside. It is moved, never deleted, so that its rows can be recovered.

Only while no process uses it: the caller holds `open.lock`, so nobody opens it, and no host's lock
may be held, because a host that has it open would keep writing to the moved file. Hosts that are
still opening it find the damage too, and leave; the caller waits for them.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from registry.errors import DatabaseDamaged
from registry.log import about, logger
from registry.world.hosts import living_hosts
from registry.world.identity_file import IDENTITY

__all__ = ["FOLDER", "HostsOpening", "require_unused", "set_aside"]

FOLDER = "damaged"
_PARTS = ("registry.db-shm", "registry.db-wal", "registry.db", IDENTITY)


class HostsOpening(DatabaseDamaged):
    """Hosts are still opening a damaged database; try again later."""


def require_unused(cache: Path, damage: DatabaseDamaged) -> None:
    """Raise `DatabaseDamaged` if hosts have it open, `HostsOpening` if they are opening it."""
    entered, opening = living_hosts(cache / "hosts")
    if entered:
        raise DatabaseDamaged(
            f"{damage}; {entered} other host(s) still have it open: stop them (`registry "
            "hosts`), then open it again: it will be set aside and replaced"
        ) from damage
    if opening:
        raise HostsOpening(
            f"{damage}; {opening} other host(s) are still opening it: wait for them, or stop them, "
            "then open it again: it will be set aside and replaced"
        ) from damage


def set_aside(cache: Path, damage: DatabaseDamaged) -> Path:
    """Move a damaged database into `damaged/`; raises as `require_unused` does."""
    require_unused(cache, damage)
    os.makedirs(cache / FOLDER, mode=0o700, exist_ok=True)
    place = cache / FOLDER / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    while True:
        try:
            os.mkdir(place, 0o700)
            break
        except FileExistsError:
            place = place.with_name(place.name + "x")
    for name in _PARTS:
        with suppress(FileNotFoundError):
            os.rename(cache / name, place / name)
    logger.warning(
        "the database was damaged (%s); it was set aside in %s and replaced by a new one: "
        "artifacts will be prepared again, unless `registry db recover` brings back what "
        "can be read, within an hour, before the files are deleted",
        damage,
        place,
        extra=about("set_aside", place=str(place), error=str(damage)),
    )
    return place
