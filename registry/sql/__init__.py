"""Every statement that the program runs, as text, with its name and one sentence of English.

`sqlite.sql` is the text, and what runs. It is compiled from `registry.sql.core` (SQLAlchemy), which
nothing imports at run time; a test holds the two equal. The modules here give each statement the
name by which the verbs know it.
"""
