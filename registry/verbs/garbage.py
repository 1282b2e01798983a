"""Unlink files that no row refers to (any more).

One that cannot be unlinked (`chattr +i`, a sick disk) stops nothing: the others go, it is told at
the end, and each sweep tries it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from registry.effects import Unlink, Verb
from registry.errors import CacheDirectoryRefused
from registry.log import about, logger

__all__ = ["unlink_each"]


def unlink_each(names: Iterable[str]) -> Verb[CacheDirectoryRefused | None]:
    """Unlink each file; log those that stay, and answer what is to be told of them."""
    stuck: dict[str, str] = {}
    for name in names:
        try:
            yield from Unlink(name)
        except OSError as error:
            if error.errno is None:  # a signal handler's own
                raise
            stuck[name] = error.strerror or str(error)
    if not stuck:
        return None
    name, why = next(iter(stuck.items()))
    refusal = CacheDirectoryRefused(
        f"{len(stuck)} file(s) that no row refers to cannot be removed, the first is artifacts/"
        f"{name} ({why}): look at the mode of artifacts/ and for the attributes `i` and `a` of "
        "both (`lsattr -d`), remove them (`chattr -ia`), then run `registry check --repair`"
    )
    told = about("not_removed", count=len(stuck), place=f"artifacts/{name}", error=why)
    logger.warning("%s", refusal, extra=told)
    return refusal
