"""The counters of the cache: how often what happened since it was made, in all processes together.

Triggers count what is written to the journal. Needs write nothing while an artifact is hot, and so
no trigger sees them: each handle counts them for itself, and tells the cache now and then, beside a
write that it makes anyway, once a second at most, and at its close. A process that is killed takes
along what it had not told.
"""

from __future__ import annotations

from contextlib import suppress

from registry.effects import Locked, Run, Unsure, Verb
from registry.errors import RegistryError
from registry.sql.totals import TELL, TOTALS
from registry.verbs.database import run
from registry.verbs.handle import Handle

__all__ = ["tell", "tell_the_rest", "totals"]

TELL_EVERY_MICROS = 1_000_000


def tell(handle: Handle, now: int) -> Verb[None]:
    """Tell the cache what it does not know yet, if that is due; where it is busy, another time."""
    if 0 <= now - handle.told_at < TELL_EVERY_MICROS:
        return
    news = handle.untold()
    if not any(news.values()):
        return
    handle.told.update(news)  # at once: another thread must not tell it too
    try:
        yield from Run(TELL, news)
        handle.told_at = now
    except (Locked, RegistryError):
        handle.told.subtract(news)
    except Unsure:
        pass  # it may be told already, and is not told twice


def tell_the_rest(handle: Handle) -> Verb[None]:
    """Tell the cache all that it does not know yet, with patience: the handle closes."""
    news = handle.untold()
    if any(news.values()):
        handle.told.update(news)
        with suppress(RegistryError):
            yield from run(TELL, news)


def totals(handle: Handle) -> Verb[dict[str, int]]:
    """Read how often what happened since the cache was made, this handle's own up to now."""
    told = dict((yield from run(TOTALS, {})))
    return {name: count + handle.untold().get(name, 0) for name, count in told.items()}
