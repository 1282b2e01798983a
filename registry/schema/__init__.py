"""The schema of the database as text; no logic.

`sqlite3 registry.db .schema` shows the same text, and a test compares it with what the migrations
produce. The comments are inside the statements so that a plain SQLite shell shows them too.

`tables` has the tables that the verbs use, `journal` the history, `views` what people read, `ddl`
all of them; `docs/sqlite3.md` says which parts users may rely on.
"""

__all__ = ["APPLICATION_ID"]

# "pvfR" in ASCII: `file registry.db` shows it, and it marks a database as one of registry's.
APPLICATION_ID = 0x70766652
