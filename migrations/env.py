"""Run Alembic on a connection that is handed in, and only there.

`registry.opening.migrate` opens the connection, begins the one IMMEDIATE transaction that an
upgrade is, and commits it. Without a connection there is no way to take the locks that keep other
hosts out, so `alembic` on the command line is refused; use `registry db upgrade`.
"""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run through `registry db upgrade`, which locks the cache first")

# The transaction belongs to the caller: it must span every revision, or none.
context.configure(connection=connection, transactional_ddl=False)
context.run_migrations()
