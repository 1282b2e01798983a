"""The schema of the database, as it stands in it; no logic.

The text here is what `sqlite3 registry.db .schema` shows, and a test compares it, letter by letter,
with what the migrations lead to. The comments are inside the statements so that a person in a
plain shell reads them too.

`tables` is what the verbs live on, `journal` what is remembered of the past, `views` what people
read, `ddl` all of them; `docs/sqlite3.md` tells which of it may be relied on.
"""

__all__ = ["APPLICATION_ID"]

# "pvfR" in ASCII: what `file registry.db` shows, and how we know a database for one of ours.
APPLICATION_ID = 0x70766652
