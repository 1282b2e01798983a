"""Write `sqlite.sql` again: `python -m registry.sql.core`."""

from __future__ import annotations

from pathlib import Path

from registry.sql import core, statement

if __name__ == "__main__":
    text = statement.render(core.sqlite_statements())
    Path(statement.__file__).with_name("sqlite.sql").write_text(text, "utf-8")
