"""The statements that read artifacts and settings, written in SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, delete, func, literal_column, or_, select, text, update
from sqlalchemy.dialects.sqlite import insert

from registry.artifact import State
from registry.sql.core.clock_slack import ahead
from registry.sql.core.compiler import compiled, constant, given
from registry.sql.core.eviction import in_walk_order, oldest_of_a_kind, oldest_over_the_limit
from registry.sql.core.tables import (
    artifact,
    failure_usage,
    host,
    maintenance,
    setting,
    usage,
)
from registry.sql.core.transitions import stored
from registry.sql.statement import Statement

_ROW = artifact.c
_PREPARED = _ROW.state == constant(State.PREPARED)
_PREPARING = _ROW.state == constant(State.PREPARING)
_FAILED = _ROW.state == constant(State.FAILED)
_ANY_KIND = or_(given("only").is_(None), _ROW.kind == given("only"))


_HOLDER = (
    select(host.c.pid).where(host.c.id == _ROW.host_id).scalar_subquery(),
    select(host.c.hostname).where(host.c.id == _ROW.host_id).scalar_subquery(),
)

READ = compiled(
    "read",
    "Read one artifact, and who prepares it.",
    select(*_ROW, *_HOLDER).where(_ROW.code_hash == given("code"), _ROW.prep_hash == given("prep")),
)
READ_SEVERAL = compiled(
    "read several",
    "Read the rows that a handle waits for, by a JSON array of their row ids.",
    select(*_ROW, *_HOLDER).where(
        _ROW.id.in_(select(text("value")).select_from(func.json_each(given("ids"))))
    ),
)
PREPARED_PAGE = compiled(
    "prepared page",
    "List a page of the prepared, most recently needed first, after a key.",
    select(*_ROW)
    .where(
        _PREPARED,
        _ANY_KIND,
        _ROW.last_time_needed <= given("before"),
        or_(_ROW.last_time_needed < given("before"), _ROW.id < given("before_id")),
    )
    .order_by(_ROW.last_time_needed.desc(), _ROW.id.desc())
    .limit(given("most"))
    .offset(constant(0)),
)
ALL_PREPARING = compiled(
    "all preparing",
    "List those being prepared, the last claim first; they are as few as the hosts at work.",
    select(*_ROW, *_HOLDER).where(_PREPARING, _ANY_KIND).order_by(_ROW.claimed_at.desc()),
)
FAILED_PAGE = compiled(
    "failed page",
    "List a page of the failed, the last failure first, after a key.",
    select(*_ROW)
    .where(
        _FAILED,
        _ANY_KIND,
        _ROW.last_time_failed <= given("before"),
        or_(_ROW.last_time_failed < given("before"), _ROW.id < given("before_id")),
    )
    .order_by(_ROW.last_time_failed.desc(), _ROW.id.desc())
    .limit(given("most"))
    .offset(constant(0)),
)
BY_PREFIX = compiled(
    "by prefix",
    "Find artifacts by the first digits of their hashes; `code_end` bounds them from above.",
    select(*_ROW)
    .where(
        _ROW.code_hash >= given("code_start"),
        _ROW.code_hash < given("code_end"),
        func.substr(_ROW.prep_hash, constant(1), func.length(given("prep_start")))
        == given("prep_start"),
        # The CHECKs of the schema read a text up to its first NUL only.
        func.length(func.hex(_ROW.code_hash.concat(_ROW.prep_hash))) == constant(256),
    )
    .limit(constant(2))
    .offset(constant(0)),
)
CLAIMS_OF = compiled(
    "claims of",
    "Read the claims of one host.",
    select(*_ROW).where(_PREPARING, _ROW.host_id == given("seen_host")),
)
CLAIMANTS = compiled(
    "claimants",
    "Read which hosts hold claims.",
    select(_ROW.host_id).where(_PREPARING).distinct(),
)
PATHS_PAGE = compiled(
    "paths page",
    "Read which files the rows refer to, a page after a row id.",
    select(_ROW.id, _ROW.state, _ROW.path)
    .where(_ROW.id > given("after_id"), _ROW.path.is_not(None))
    .order_by(_ROW.id)
    .limit(given("most"))
    .offset(constant(0)),
)
WHOLE_PAGE = compiled(
    "whole page",
    "Read a page of the prepared after a row id, to compare them with their files.",
    select(*_ROW)
    .where(_ROW.id > given("after_id"), _PREPARED)
    .order_by(_ROW.id)
    .limit(given("most"))
    .offset(constant(0)),
)
USAGE = compiled(
    "usage",
    "Read how much is prepared, the settings that bound it, and when it was last maintained.",
    select(
        usage.c.prepared_count,
        usage.c.prepared_bytes,
        stored("cache_limit"),
        stored("min_stale_time"),
        stored("hard_limit"),
        select(maintenance.c.last_done).scalar_subquery(),
    ),
)
COUNTS = compiled(
    "counts",
    "Count the preparing, the failed, and the bytes of their errors.",
    select(
        select(func.count()).select_from(artifact).where(_PREPARING).scalar_subquery(),
        failure_usage.c.failed_count,
        failure_usage.c.failed_bytes,
    ),
)
SUMS = compiled(
    "sums",
    "Count and sum the prepared anew, beside what the triggers kept.",
    select(
        usage.c.prepared_count,
        usage.c.prepared_bytes,
        select(func.count()).select_from(artifact).where(_PREPARED).scalar_subquery(),
        select(func.coalesce(func.sum(_ROW.size), constant(0))).where(_PREPARED).scalar_subquery(),
    ),
)
NOTE_USE = compiled(
    "note use",
    "Record a last use that could not be written at the time, unless a later one is known.",
    update(artifact)
    .where(
        _ROW.code_hash == given("code"),
        _ROW.prep_hash == given("prep"),
        _ROW.path == given("seen_path"),
        _PREPARED,
        or_(_ROW.last_time_needed < given("at"), ahead(_ROW.last_time_needed)),
    )
    .values(last_time_needed=given("at")),
    writes=True,
)
CORRECT_USAGE = Statement(
    "correct usage",
    "Set the usage to the real count and sum of the prepared.",
    """\
UPDATE usage SET (prepared_count, prepared_bytes) =
  (SELECT count(*), coalesce(sum(size), 0) FROM artifact WHERE state = 'prepared')""",
    writes=True,
)
DOOMED_OF_KIND = compiled(
    "doomed of kind",
    "Read which artifacts of a kind pruning that kind would delete, in that order.",
    select(*_ROW)
    .where(and_(oldest_of_a_kind(), _PREPARED))
    .order_by(*in_walk_order(_ROW.last_time_needed)),
)
PRUNE_KIND = compiled(
    "prune kind",
    "Delete the least recently needed artifacts of a kind until its rest is within the limit.",
    delete(artifact).where(oldest_of_a_kind(), _PREPARED).returning(*_ROW),
    writes=True,
    durable=True,
)
KINDS = compiled(
    "kinds",
    "Count and sum what each kind holds, the largest first.",
    select(
        _ROW.kind,
        func.count().filter(_PREPARED),
        func.coalesce(func.sum(_ROW.size), constant(0)),
        func.count().filter(_FAILED),
    )
    .where(_ROW.kind.is_not(None))
    .group_by(_ROW.kind)
    .order_by(func.sum(_ROW.size).desc())
    .limit(given("most"))
    .offset(constant(0)),
)
_REMOVABLE = _ROW.state.in_([constant(State.PREPARED), constant(State.FAILED)])
_ANY_CODE = or_(given("code").is_(None), _ROW.code_hash == given("code"))


def _removable(name: str, says: str, *guards: ColumnElement[bool]) -> Statement:
    found = select(*_ROW).where(*guards, _REMOVABLE)
    return compiled(name, says, found.limit(given("most")).offset(constant(0)))


REMOVABLE = _removable("removable", "Read some of the artifacts that may be removed.")
REMOVABLE_OF_CODE = _removable(
    "removable of code",
    "Read some of the artifacts of one code, and of one kind if that is given.",
    _ROW.code_hash == given("code"),
    _ANY_KIND,
)
REMOVABLE_OF_KIND = _removable(
    "removable of kind",
    "Read some of the artifacts of one kind.",
    _ROW.kind == given("only"),
)
REMOVE_SEVERAL = compiled(
    "remove several",
    "Delete artifacts by hand, by a JSON array of row ids, if they are of the code and kind.",
    delete(artifact)
    .where(
        _ROW.id.in_(select(text("value")).select_from(func.json_each(given("ids")))),
        _REMOVABLE,
        _ANY_CODE,
        _ANY_KIND,
    )
    .returning(*_ROW),
    writes=True,
    durable=True,
)
OF_CODE_PAGE = compiled(
    "of code page",
    "List a page of the artifacts of one code, in the order of their parameters' hashes.",
    select(*_ROW, *_HOLDER)
    .where(
        _ROW.code_hash == given("code"),
        _ROW.prep_hash > given("after_prep"),
        or_(given("state").is_(None), _ROW.state == given("state")),
        _ANY_KIND,
    )
    .order_by(_ROW.prep_hash)
    .limit(given("most"))
    .offset(constant(0)),
)
DOOMED = compiled(
    "doomed",
    "Read which artifacts pruning would delete, in that order.",
    select(*_ROW)
    .where(and_(oldest_over_the_limit(), _PREPARED))
    .order_by(*in_walk_order(_ROW.last_time_needed)),
)
SETTINGS = compiled("settings", "Read the settings.", select(setting.c.name, setting.c.value))
_changes = func.json_each(given("changes")).table_valued("key", "value")
_change = insert(setting).from_select(
    # "where true" keeps SQLite's parser from taking ON CONFLICT for the join of the SELECT.
    ["name", "value"],
    select(_changes.c.key, _changes.c.value).where(literal_column("true")),
)
CONFIGURE = compiled(
    "configure",
    "Change settings, all or none, by a JSON object.",
    _change.on_conflict_do_update(
        index_elements=["name"], set_={"value": _change.excluded.value}
    ).returning(setting.c.name),
    writes=True,
)
LONGEST_PREPARATION = compiled(
    "longest preparation",
    "Read the longest time that this code took to prepare, with any parameters.",
    select(func.max(_ROW.prepare_seconds)).where(_ROW.code_hash == given("code")),
)

OLDEST_NEED = compiled(
    "oldest need",
    "Read when the prepared artifact that was needed longest ago was needed.",
    select(func.min(_ROW.last_time_needed)).where(_PREPARED),
)
WORKING_SET = compiled(
    "working set",
    "Count and sum the artifacts needed since a time: what the cache must hold.",
    select(func.count(), func.coalesce(func.sum(_ROW.size), constant(0)))
    .select_from(artifact)
    .where(_PREPARED, _ROW.last_time_needed > given("since"), ~ahead(_ROW.last_time_needed)),
)
