"""Every statement that the program runs, as text, with its name and one sentence of English.

`sqlite.sql` is the text that runs. It is compiled from `registry.sql.core` (SQLAlchemy), which
nothing imports at run time; a test compares the two. The modules here give each statement the name
that the verbs use.
"""
