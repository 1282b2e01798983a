"""Each revision goes up, down and up again; an upgrade happens as a whole or not at all.

Data is written by plain SQL as the schema of its time had it, never through the program, which
moves on.
"""

from __future__ import annotations

import ast
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from support.wheels import ROOT

from registry import ArtifactId, CacheDirectoryRefused, Registry, RegistryBusy
from registry.opening import migrate

SCRIPTS = sorted((ROOT / "migrations").rglob("*.py"))
DATA = """\
INSERT INTO artifact (code_hash, prep_hash, state, path, size, checksum, last_time_needed)
  VALUES ('{a}', '{b}', 'prepared', '{path}', 3, 'c', 1);
INSERT INTO artifact (code_hash, prep_hash, state, error, last_time_failed, num_failures)
  VALUES ('{b}', '{a}', 'failed', 'it went wrong', 1, 1);
INSERT INTO setting VALUES ('cache_limit', 1000);
""".format(a="a" * 64, b="b" * 64, path="1" * 128 + ".pvf")


def revisions() -> list[str]:
    """All revisions, the first one first."""
    known = ScriptDirectory.from_config(migrate.config()).walk_revisions()
    return [script.revision for script in known][::-1]


def dump(path: Path, *, but: str = "") -> tuple[Any, ...]:
    """Everything that is in a database: its schema letter by letter, its rows, its pragmas."""
    with closing(sqlite3.connect(path)) as connection:
        schema = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        rows = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()
            for (name,) in tables
            if name != but
        }
        pragmas = [
            connection.execute(f"PRAGMA {name}").fetchone()
            for name in ("application_id", "user_version", "integrity_check")
        ]
    return schema, rows, pragmas


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty database."""
    path = tmp_path / "registry.db"
    path.touch()
    return path


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, to add one to."""
    copied = shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    monkeypatch.setattr(migrate, "_scripts", lambda: copied)
    return copied / "versions"


def add_revision(scripts: Path, body: str) -> None:
    (scripts / "9999_next.py").write_text(
        "import sqlite3\nfrom contextlib import closing\nfrom alembic import op\n"
        f"revision = '9999'\ndown_revision = '{migrate.HEAD}'\n"
        f"def upgrade() -> None:\n    {body}\n"
    )


def test_the_newest_revision_is_the_one_that_the_program_names() -> None:
    assert ScriptDirectory.from_config(migrate.config()).get_heads() == [migrate.HEAD]
    assert revisions()[0] == "0001"
    assert revisions()[-1] == migrate.HEAD


@pytest.mark.parametrize("revision", revisions())
def test_each_revision_goes_up_down_and_up_again(path: Path, revision: str) -> None:
    before = ["base", *revisions()][revisions().index(revision)]
    if before != "base":
        migrate.upgrade(str(path), before)
        execute(path, DATA)
    below = dump(path, but="alembic_version")

    migrate.upgrade(str(path), revision)
    above = dump(path)
    migrate.downgrade(str(path), before)
    if before != "base":
        assert dump(path, but="alembic_version") == below
    migrate.upgrade(str(path), revision)

    assert dump(path)[0] == above[0]  # the schema; a cache made anew has another uuid
    assert migrate.revision_of(str(path)) == revision


def test_all_the_way_down_leaves_nothing_but_alembics_own_empty_table(path: Path) -> None:
    migrate.upgrade(str(path))
    migrate.downgrade(str(path), "base")
    schema, rows, pragmas = dump(path)
    assert {name for name, _ in schema} <= {"alembic_version", "sqlite_autoindex_alembic_version_1"}
    assert (rows, pragmas) == ({"alembic_version": []}, [(0,), (0,), ("ok",)])


def test_an_older_cache_is_upgraded_by_opening_and_keeps_its_artifacts(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = ArtifactId.of(b"code")
    with Registry(cache) as registry:
        registry.get_or_prepare(code, lambda: b"artifact")
    migrate.downgrade(str(cache / "registry.db"), "0001")  # which knew no identity
    with Registry(cache) as registry:
        assert registry.need(code) is not None
        assert registry.check(checksums=True).ok  # the database and cache.id agree


def test_an_upgrade_that_fails_midway_changes_nothing(path: Path, scripts: Path) -> None:
    migrate.upgrade(str(path))
    execute(path, DATA)
    before = dump(path)
    add_revision(
        scripts,
        "op.get_bind().exec_driver_sql('DELETE FROM artifact');"
        "op.get_bind().exec_driver_sql('CREATE TABLE half (done)');"
        "op.get_bind().exec_driver_sql('PRAGMA user_version = 9999');"
        "raise RuntimeError('midway')",
    )
    with pytest.raises(RuntimeError, match="midway"):
        migrate.upgrade(str(path))
    assert dump(path) == before


def test_an_upgrade_over_several_revisions_is_one_transaction(path: Path, scripts: Path) -> None:
    add_revision(scripts, "raise RuntimeError('at the last step')")
    with pytest.raises(RuntimeError, match="at the last step"):
        migrate.upgrade(str(path))
    assert dump(path) == ([], {}, [(0,), (0,), ("ok",)])


def test_nobody_writes_while_an_upgrade_runs(path: Path, scripts: Path) -> None:
    migrate.upgrade(str(path))
    add_revision(
        scripts,
        f"with closing(sqlite3.connect({str(path)!r}, timeout=0)) as rival:\n"
        "        rival.execute('UPDATE usage SET prepared_count = 7')",
    )
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        migrate.upgrade(str(path))
    assert dump(path)[1]["usage"] == [(0, 0)]


# --- opening, where an upgrade cannot be done, or rebuilds --------------------------------------


def test_an_upgrade_that_a_shell_keeps_waiting_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    Registry(cache).close()
    migrate.downgrade(str(cache / "registry.db"), "0003")
    before = dump(cache / "registry.db")
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_SECONDS", 0.0)
    with closing(sqlite3.connect(cache / "registry.db", isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryBusy, match="is locked by another program"):
            Registry(cache)
    assert dump(cache / "registry.db") == before
    with Registry(cache) as registry:
        assert registry.check().ok


@pytest.mark.parametrize("rebuilds", [True, False])
def test_a_backup_is_made_before_a_table_is_rebuilt(
    tmp_path: Path, scripts: Path, monkeypatch: pytest.MonkeyPatch, rebuilds: bool
) -> None:
    cache, code = tmp_path / "cache", ArtifactId.of(b"code")
    with Registry(cache) as registry:
        registry.get_or_prepare(code, lambda: b"artifact")
    add_revision(scripts, "op.get_bind().exec_driver_sql('DELETE FROM artifact')")
    with (scripts / "9999_next.py").open("a") as script:
        script.write(f"rebuilds = {rebuilds}\n")
    before = migrate.HEAD
    monkeypatch.setattr(migrate, "HEAD", "9999")
    with Registry(cache) as registry:
        assert registry.get(code) is None
    assert (cache / "backups").exists() == rebuilds
    kept = list((cache / "backups").glob("*"))
    assert len(kept) == rebuilds
    for backup in kept:
        assert backup.stat().st_mode & 0o777 == 0o600
        assert migrate.revision_of(str(backup)) == before
        with closing(sqlite3.connect(backup)) as connection:
            assert connection.execute("SELECT code_hash FROM artifact").fetchall() == [
                (code.code_hash,)
            ]


def test_no_backup_no_upgrade(
    tmp_path: Path, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    Registry(cache).close()
    add_revision(scripts, "raise AssertionError('not without a backup')")
    with (scripts / "9999_next.py").open("a") as script:
        script.write("rebuilds = True\n")
    (cache / "backups").write_text("in the way")
    monkeypatch.setattr(migrate, "HEAD", "9999")
    with pytest.raises(CacheDirectoryRefused, match="backups"):
        Registry(cache)
    assert migrate.revision_of(str(cache / "registry.db")) != "9999"


# --- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_migrations_import_nothing_of_the_program(script: Path) -> None:
    imported: list[str] = []
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            imported += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import would be of registry, in a wheel"
            imported.append(node.module or "")
    assert [name for name in imported if name.split(".")[0] == "registry"] == []


def test_alembic_without_a_connection_is_refused(path: Path) -> None:
    settings = migrate.config()
    settings.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    with pytest.raises(SystemExit, match="registry db upgrade"):
        command.upgrade(settings, "head")
    with pytest.raises(SystemExit, match="registry db upgrade"):
        command.upgrade(settings, "head", sql=True)
    assert path.read_bytes() == b""
