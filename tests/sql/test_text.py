"""The file of statements is what SQLAlchemy Core compiles to, and is read as it was written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from registry.sql import sqlite, statement
from registry.sql.core import sqlite_statements

TEXT = Path(statement.__file__).with_name("sqlite.sql")


def test_the_file_is_what_core_compiles_to() -> None:
    written = statement.render(sqlite_statements())
    assert TEXT.read_text("utf-8") == written, "run `python -m registry.sql.core`"


def test_what_is_read_is_what_was_compiled() -> None:
    assert list(sqlite.SQLITE.values()) == sqlite_statements()


def test_opening_a_cache_and_asking_it_imports_no_sqlalchemy(cache: Path) -> None:
    script = (
        "import sys; from registry import ArtifactId, Registry\n"
        "with Registry(sys.argv[1]) as registry:\n"
        "    registry.get_or_prepare(ArtifactId.of(b'code'), lambda: b'artifact')\n"
    )
    subprocess.run([sys.executable, "-c", script, cache], check=True)  # makes the cache
    script += "sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script, cache], check=True)
