"""The schema across versions: what a database has, what we need, and how to get there.

Opening asks for the revision with one SELECT; Alembic is imported only when there is something to
migrate. An upgrade is one IMMEDIATE transaction, on a connection that is handed to Alembic: it
happens as a whole or not at all, and no host writes while it runs.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from registry.errors import DatabaseDamaged, NotARegistry, SchemaTooNew
from registry.opening.cache_path import LONGEST_DATABASE_PATH
from registry.schema import APPLICATION_ID
from registry.version import __version__
from registry.world.connection import connect

if TYPE_CHECKING:
    import sqlalchemy
    from alembic.config import Config

__all__ = [
    "FIRST",
    "HEAD",
    "OLDEST_SQLITE",
    "Revision",
    "backup",
    "current",
    "downgrade",
    "is_older",
    "rebuilds",
    "require_ours",
    "require_whole",
    "revision_of",
    "revisions",
    "upgrade",
    "uuid_of",
]

# The newest revision this version of the program knows; a test compares it with `migrations/`.
HEAD = "0006"
FIRST = "0001"  # it knew no hosts, and no identity of the cache
# STRICT tables came with 3.37, json in every build with 3.38; Python 3.11 ships neither by itself.
OLDEST_SQLITE = (3, 37, 0)
LOCK_TIMEOUT_SECONDS = 30.0


class Revision(NamedTuple):
    """One state of the schema, and what it brought."""

    id: str
    says: str


def current(connection: sqlite3.Connection) -> str | None:
    """The revision of a database of ours; None if it is empty.

    Raises `NotARegistry` for a database of another application, `DatabaseDamaged` for one of ours
    that does not say its revision.
    """
    require_ours(connection)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    if not tables:
        return None
    if "alembic_version" in tables:
        for (revision,) in connection.execute("SELECT version_num FROM alembic_version").fetchall():
            return str(revision)
    raise DatabaseDamaged("registry.db does not say which schema it has")


def require_ours(connection: sqlite3.Connection) -> None:
    """Refuse a database that has another application's id, or tables but not our id."""
    ((application,),) = connection.execute("PRAGMA application_id").fetchall()
    if application == APPLICATION_ID:
        return
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != 0 or tables:
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        raise NotARegistry(
            f"{path} belongs to another application (id {application:#x}); "
            "it is left as it is: name another cache directory"
        )


def require_whole(path: str) -> None:
    """Read all of a database, and compare its indexes with its tables.

    Raises `DatabaseDamaged`, and sqlite3's own errors. A row that is none of ours is no damage:
    `Registry.check` removes it.
    """
    with closing(connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        (says,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if says != "ok":
        raise DatabaseDamaged(f"{path} is damaged ({says.strip()})")


def upgrade(path: str, revision: str = "head") -> None:
    """Bring a database to a revision, in one transaction; raises sqlite3's own errors."""
    _run(path, "upgrade", revision)


def downgrade(path: str, revision: str) -> None:
    """Take a database back to an older revision, in one transaction; raises as `upgrade`."""
    _run(path, "downgrade", revision)


def revisions() -> list[Revision]:
    """All that this version knows, the first one first."""
    from alembic.script import ScriptDirectory

    walked = ScriptDirectory.from_config(config()).walk_revisions()
    return [Revision(script.revision, script.doc) for script in walked][::-1]


def rebuilds(revision: str) -> bool:
    """Whether migrating from a revision to the newest one rebuilds a table.

    Such a migration says `rebuilds = True`; all others only add.
    """
    from alembic.script import ScriptDirectory

    ahead = ScriptDirectory.from_config(config()).iterate_revisions("head", revision)
    return any(getattr(script.module, "rebuilds", False) for script in ahead)


def backup(path: str, target: str) -> None:
    """Copy a database, as it stands at one moment, into a new file that only we may read.

    Hosts may go on working. Raises FileExistsError and other OSErrors, and sqlite3's own errors; no
    file is left then.
    """
    if len(os.fsencode(os.path.realpath(target))) > LONGEST_DATABASE_PATH:
        why = f"SQLite allows {LONGEST_DATABASE_PATH} bytes for the path of a database"
        raise OSError(errno.ENAMETOOLONG, why, target)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with closing(connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
            connection.execute("VACUUM INTO ?", (target,))
        with closing(connect(target, synchronous="FULL")) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()  # a copy forgets it
        _sync(target)
        _sync(os.path.dirname(os.path.abspath(target)))
    except BaseException:
        os.unlink(target)
        raise


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_older(path: str, revision: str) -> bool:
    """Whether a revision is one before ours.

    One that we do not know was made by a newer version. Revisions only add, so we may still use
    the database, unless it says that it excludes us: then `SchemaTooNew` is raised.
    """
    if _knows(revision):
        return True
    oldest = _oldest_version(path)
    if oldest is None or _parts(__version__) < _parts(oldest):
        raise SchemaTooNew(
            f"the database has schema {revision}, this version of registry ({__version__}) knows "
            f"{HEAD}, and the database admits registry {oldest or 'of its own version'} or later; "
            "upgrade registry"
        )
    return False


def config() -> Config:
    """Alembic's configuration, made in code: there is no ini file to be found or lost."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def _run(path: str, direction: str, revision: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        "sqlite://",
        creator=lambda: connect(path, synchronous="FULL", timeout=LOCK_TIMEOUT_SECONDS),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            _migrate(connection, direction, revision)
    except DBAPIError as error:
        raise error.orig or error from None  # sqlite3's own, as everywhere else


def _migrate(connection: sqlalchemy.Connection, direction: str, revision: str) -> None:
    from alembic import command

    connection.exec_driver_sql("BEGIN IMMEDIATE")
    settings = config()
    settings.attributes["connection"] = connection
    getattr(command, direction)(settings, revision)
    _require_references(connection)
    connection.commit()


def _require_references(connection: sqlalchemy.Connection) -> None:
    """Refuse to leave a reference to nothing, in a foreign table: ours have none."""
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if dangling:
        tables = ", ".join(sorted({str(table) for table, *_ in dangling}))
        refused = sqlite3.IntegrityError(f"references to rows that are not there, in {tables}")
        refused.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
        raise refused


def _knows(revision: str) -> bool:
    return revision == HEAD or revision in {known.id for known in revisions()}


def _scripts() -> Path:
    """In a wheel they are inside the package; in a checkout, beside it."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def uuid_of(path: str) -> str:
    """Which cache a database says that it is."""
    with closing(connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
        uuid: str = connection.execute("SELECT uuid FROM cache").fetchone()[0]
        return uuid


def _oldest_version(path: str) -> str | None:
    with closing(connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
        try:
            row = connection.execute("SELECT oldest_version FROM cache").fetchone()
        except sqlite3.OperationalError:
            return None
    return None if row is None else row[0]


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def revision_of(path: str) -> str | None:
    """The revision of the database at a path."""
    with closing(connect(path, timeout=LOCK_TIMEOUT_SECONDS)) as connection:
        return current(connection)
