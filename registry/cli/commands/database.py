"""The database: its path, its schema, upgrades, copies and recovery."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from registry.cli.options import (
    InOrder,
    file_name,
    shared_options,
    with_create,
    with_shared_options,
)
from registry.cli.session import Session, in_session
from registry.cli.units import near_size
from registry.errors import CacheDirectoryRefused

__all__ = ["db"]


@click.group(cls=InOrder, no_args_is_help=False)
@with_shared_options
@click.pass_context
def db(context: click.Context, *, cache: str | None, json: bool, quiet: bool) -> None:
    """Manage the database: path, schema, copies."""
    shared_options(context, cache=cache, json=json, quiet=quiet)


_COLUMNS = (("REVISION", "<8"), ("STATE", "<7"), ("CHANGE", ""))


@dataclass(frozen=True, slots=True)
class Listed:
    """One revision in the list; `state` is applied, current or not yet."""

    revision: str
    says: str
    state: str


@db.command()
@in_session
def path(session: Session) -> None:
    """Print the path of the database, for the sqlite3 shell."""
    place = _path(session)
    session.write({"path": place}, [place], exact=True)


@db.command()
@in_session
def current(session: Session) -> None:
    """Print the revision of the schema; changes nothing."""
    from registry.opening.migrate import HEAD

    revision = _revision(_path(session))
    words = f"{revision or 'none'} ({_age(revision)})"
    session.write({"revision": revision, "head": HEAD}, [words])


@db.command()
@in_session
def history(session: Session) -> None:
    """List the revisions of the schema that this version knows; changes nothing.

    For the history of an artifact see `registry why`.
    """
    from registry.opening.migrate import revisions

    now, known = _revision(_path(session)), revisions()
    ids = [revision.id for revision in known]
    at = -1 if now is None else ids.index(now) if now in ids else len(ids)
    listed = [Listed(*revision, _state(n, at)) for n, revision in enumerate(known)]
    session.write_list(listed, _COLUMNS, lambda it: (it.revision, it.state, it.says))
    if at == len(ids):  # it builds on the revisions that we know
        session.note(f"the database has revision {now}, from a newer version of registry")


@db.command()
@in_session
@with_create
def upgrade(session: Session) -> None:
    """Upgrade the schema to the newest revision; creates the database if missing.

    Opening the cache does this too. Processes with older versions keep working, as long as the
    database admits them.
    """
    before = _revision(_path(session))
    after = _revision(str(session.registry_or_new.cache_dir / "registry.db"))
    changed = f"{before or 'none'} -> {after}"
    words = changed if after != before else f"{after} already ({_age(after)})"
    session.write({"before": before, "revision": after}, [words])


@db.command()
@in_session
@click.argument("revision", metavar="REVISION")
def downgrade(session: Session, revision: str) -> None:
    """Take the schema back to an older revision, for an older version of registry.

    REVISION is one from `db history`.

    Data added by newer revisions is lost; the artifacts are kept. Make a backup and stop all
    processes that use the cache first. This version upgrades the database again when it next opens
    the cache.
    """
    from registry.opening.cache import downgrade_cache

    path, before = _existing(session)
    downgrade_cache(session.cache_dir, revision)
    after = _revision(path)
    session.write({"before": before, "revision": after}, [f"{before} -> {after}"])
    session.note("this version upgrades it again when it next opens the cache")


@db.command()
@in_session
@click.argument("file", type=file_name, metavar="FILE")
def backup(session: Session, file: Path) -> None:
    """Copy a snapshot of the database to a new file; the cache may stay in use.

    FILE must not exist; its mode will be 0600.

    The copy has the rows, not the artifacts, which are files in the cache directory.
    """
    from registry.opening import migrate
    from registry.opening.errors import worded

    path, _ = _existing(session)
    with worded(path):
        migrate.backup(path, str(file))
    size = file.stat().st_size
    session.write({"path": str(file), "size": size}, [f"{file}: {near_size(size)}"])


@db.command()
@in_session
@click.argument("folder", required=False, type=file_name, metavar="[FOLDER]")
def recover(session: Session, folder: Path | None) -> None:
    """Recover artifacts from a damaged database set aside; the cache may stay in use.

    FOLDER is one in damaged/ [default: the newest].

    Its readable rows are compared with the files; intact artifacts come back, as needed now. Do it
    within an hour: after that, files without a row are deleted.
    """
    from registry.recovery import newest, recover

    place = folder or newest(session.cache_dir)
    done = recover(session.registry_or_new, place)
    words = (
        f"{place}: {done.read} artifacts can be read; {done.recovered} were recovered, "
        f"{done.known} were already known, {done.missing} have no file, "
        f"{done.damaged} have a damaged file"
    )
    session.write({"folder": place, **asdict(done)}, [words])


def _age(revision: str | None) -> str:
    """Compare the revision of a database with those of this version."""
    from registry.opening.migrate import HEAD, revisions

    if revision is None:
        return f"there is no database yet; the newest is {HEAD}"
    if revision == HEAD:
        return "the newest"
    if revision in {known.id for known in revisions()}:
        return f"the newest is {HEAD}; `registry db upgrade` or opening the cache upgrades it"
    return f"from a newer version of registry; this version knows up to {HEAD}"


def _state(number: int, at: int) -> str:
    return "current" if number == at else "applied" if number < at else "not yet"


def _path(session: Session) -> str:
    from registry.opening.cache_path import path_problem
    from registry.opening.problems import refusal

    cache = session.cache_dir
    problem = path_problem(cache)
    if problem is not None:
        raise refusal(cache, [problem])
    if cache.exists() and not cache.is_dir():
        raise CacheDirectoryRefused(f"{cache} is not a directory; choose another path")
    return str(cache / "registry.db")


def _existing(session: Session) -> tuple[str, str | None]:
    """Return the path and revision of the database; raises FileNotFoundError."""
    path = _path(session)
    os.stat(path)
    return path, _revision(path)


def _revision(path: str) -> str | None:
    """Return the revision of a database; None if it does not exist."""
    from registry.opening.errors import worded
    from registry.opening.migrate import revision_of

    if not os.path.lexists(path):
        return None
    with worded(path):
        return revision_of(path)
