"""The statements about open handles, and about the cache as a whole."""

from __future__ import annotations

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from registry.artifact import State
from registry.sql.core.clock_slack import ahead
from registry.sql.core.compiler import compiled, constant, given
from registry.sql.core.tables import artifact, cache, host, maintenance

_ROW = artifact.c
_PREPARING = _ROW.state == constant(State.PREPARING)

ENTER_HOST = compiled(
    "enter host",
    "Add an open handle, whose lock is held already. Adding it twice does no harm.",
    insert(host)
    .values(
        id=given("my_host"),
        pid=given("my_pid"),
        hostname=given("my_hostname"),
        command=given("my_command"),
        opened_at=given("now"),
        version=given("my_version"),
    )
    .on_conflict_do_nothing(),
    writes=True,
)
HOSTS = compiled("hosts", "Read the hosts.", select(*host.c).order_by(host.c.opened_at, host.c.id))
LEAVE_HOST = compiled(
    "leave host",
    "Remove a host that has no claims left.",
    delete(host)
    .where(
        host.c.id == given("seen_host"),
        ~select(_ROW.id).where(_PREPARING, _ROW.host_id == given("seen_host")).exists(),
    )
    .returning(host.c.id),
    writes=True,
)
MAINTAIN = compiled(
    "maintain",
    "Claim the maintenance if it is due: one process wins, and does it.",
    update(maintenance)
    .values(last_done=given("now"))
    .where(
        or_(
            maintenance.c.last_done <= given("due_before"),
            ahead(maintenance.c.last_done),
        )
    )
    .returning(maintenance.c.last_done),
    writes=True,
)
IDENTITY = compiled("identity", "Read which cache this is.", select(*cache.c))
