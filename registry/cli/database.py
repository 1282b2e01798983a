"""The database beneath: where it is, which schema it has, and how it gets the newest one."""

from __future__ import annotations

import os
import sqlite3

import typer

from registry.cli.options import shared_options
from registry.cli.session import Session, in_session
from registry.errors import RegistryBusy, RegistryError

__all__ = ["app"]

app = typer.Typer()
app.callback(help="The database itself: its place, its schema.")(shared_options)


@app.command()
@in_session
def path(session: Session) -> None:
    """Print where the database is, for the sqlite3 shell."""
    place = _path(session)
    session.write({"path": place}, [place])


@app.command()
@in_session
def current(session: Session) -> None:
    """Print the revision of the schema; changes nothing."""
    from registry.migrate import HEAD

    revision = _revision(_path(session))
    state = "the newest" if revision == HEAD else f"the newest that we know is {HEAD}"
    session.write({"revision": revision, "head": HEAD}, [f"{revision or 'none'} ({state})"])


@app.command()
@in_session
def upgrade(session: Session) -> None:
    """Bring the schema to the newest revision; makes the database if there is none.

    Every command but `db current` and `db path` does this by itself when it opens the cache.
    """
    before = _revision(_path(session))
    after = _revision(str(session.registry.cache_dir / "registry.db"))
    session.write({"before": before, "revision": after}, [f"{before or 'none'} -> {after}"])


def _path(session: Session) -> str:
    return os.path.abspath(session.cache_dir / "registry.db")


def _revision(path: str) -> str | None:
    """The revision of a database; None where there is none yet."""
    from registry.migrate import revision_of
    from registry.world.database import translated

    if not os.path.lexists(path):
        return None
    try:
        return revision_of(path)
    except sqlite3.Error as error:
        problem = translated(error, path)
        if isinstance(problem, RegistryError):
            raise problem from error
        raise RegistryBusy(f"{path} cannot be read just now: {error}") from error
