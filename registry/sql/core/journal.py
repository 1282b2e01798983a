"""The statements that write and read the journal, written in SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import func, select

from registry.sql.core.clock_slack import ahead
from registry.sql.core.compiler import compiled, constant, given
from registry.sql.core.tables import history as journal
from registry.sql.core.tables import host_history
from registry.sql.statement import Statement

RECORD = Statement(
    "record",
    "Write into the journal how artifacts ended, from a JSON array of rows.",
    """\
INSERT INTO history (at, event, reason, host_id,
                     code_hash, prep_hash, label, size, prepare_seconds, last_time_needed)
SELECT :now, :event, :reason, :my_host,
  json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
  json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(:rows)""",
    writes=True,
)
_WITH_HOSTS = journal.outerjoin(host_history, journal.c.host_id == host_history.c.id)
HISTORY = compiled(
    "history",
    "Read what happened to an artifact, the oldest first; walks the journal, which is bounded.",
    select(*journal.c, host_history.c.pid, host_history.c.hostname, host_history.c.command)
    .select_from(_WITH_HOSTS)
    .where(journal.c.code_hash == given("code"), journal.c.prep_hash == given("prep"))
    .order_by(journal.c.at, journal.c.id),
)
EVENTS_PAGE = compiled(
    "events page",
    "Read a page of the journal before a row id, the last written first.",
    select(*journal.c, host_history.c.pid, host_history.c.hostname, host_history.c.command)
    .select_from(_WITH_HOSTS)
    .where(journal.c.id < given("before"))
    .order_by(journal.c.id.desc())
    .limit(given("most"))
    .offset(constant(0)),
)
PAST_BY_PREFIX = compiled(
    "past by prefix",
    "Find artifacts that the journal knows by the first digits of their hashes.",
    select(journal.c.code_hash, journal.c.prep_hash)
    .where(
        journal.c.code_hash >= given("code_start"),
        journal.c.code_hash < given("code_end"),
        func.substr(journal.c.prep_hash, constant(1), func.length(given("prep_start")))
        == given("prep_start"),
    )
    .distinct()
    .limit(constant(2))
    .offset(constant(0)),
)
REBUILT = compiled(
    "rebuilt",
    "Count and time what was prepared again soon after it was pruned, since a time.",
    select(func.count(), func.coalesce(func.sum(journal.c.prepare_seconds), constant(0.0)))
    .select_from(journal)
    .where(
        journal.c.evicted_for < given("soon"), journal.c.at > given("since"), ~ahead(journal.c.at)
    ),
)
