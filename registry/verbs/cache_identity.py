"""Which cache this is: the database and the directory say it, and have to agree.

A database that was put in the place of another knows nothing of the files beside it, and would have
all of them swept.
"""

from __future__ import annotations

from registry.effects import StoredIdentity, Verb
from registry.log import about, logger
from registry.sql.queries import IDENTITY
from registry.verbs.database import run

__all__ = ["stranger", "warn_of_stranger"]


def stranger() -> Verb[str | None]:
    """Say so if this database and these files do not belong together, else None."""
    identity = yield from run(IDENTITY, {})
    said = yield from StoredIdentity()
    if identity and identity[0][0] == said:
        return None
    return (
        f"the database says that it is cache {identity[0][0] if identity else 'unknown'}, cache.id "
        f"says {said or 'nothing'}: the database was replaced. Nothing is swept, for the files may "
        "belong to the other one. Put the right database back, or, to keep this one, write its "
        "uuid into cache.id"
    )


def warn_of_stranger() -> Verb[None]:
    """Log it if they do not agree; everything but sweeping works all the same."""
    problem = yield from stranger()
    if problem is not None:
        logger.warning("%s", problem, extra=about("replaced", error=problem))
