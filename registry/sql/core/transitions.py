"""The guarded statements that change an artifact's state, made from the table of moves.

Rule 1: the table `MOVES`, in `registry.sql.legal_moves`, is the only copy of the rules. Each
statement takes its start states from the table and puts them into its WHERE clause, together with
what proves the right to move: the fencing token, the path that was read, or the time. Its end state
also comes from the table.

Rule 2: a transition is one statement in autocommit, so it is its own transaction. RETURNING tells
who won: one row, and the move was made; no row, and it was illegal or too late, and nothing
changed. A decision that was made from an earlier read is made again in the guard, so a change in
between does no harm.

Rule 3: time is a parameter (`:now`, microseconds); SQL never asks the clock.

Settings are read inside the statement that needs them, so a change takes effect at once for all
handles; a handle's own values are parameters, and override them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    and_,
    case,
    delete,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from registry import config
from registry.artifact import to_micros
from registry.sql.core.clock_slack import MAY_BE_TRIED, ahead
from registry.sql.core.compiler import compiled, constant, given
from registry.sql.core.eviction import failures_to_forget, oldest_over_the_limit
from registry.sql.core.tables import artifact, setting
from registry.sql.legal_moves import MOVES, Event
from registry.sql.statement import Statement

__all__ = ["TRANSITIONS", "stored"]

_ROW = artifact.c
_THIS = and_(_ROW.code_hash == given("code"), _ROW.prep_hash == given("prep"))
_MINE = and_(_THIS, _ROW.token == given("my_token"))
# A claim found to be late may have been extended since; the token alone would not show it.
_AS_SEEN = and_(_THIS, _ROW.token == given("seen_token"), _ROW.deadline == given("seen_deadline"))
_NO_CLAIM = {"token": null(), "host_id": null(), "claimed_at": null(), "deadline": null()}
_NO_FILE = {"path": null(), "size": null(), "checksum": null()}
_NO_FAILURE = {
    "num_failures": constant(0),
    "last_time_failed": null(),
    "error": null(),
    "error_kind": null(),
    "retry_at": null(),
}


def _may(event: Event) -> ColumnElement[bool]:
    """Guard an event by the states that the table lets it start from."""
    sources = [constant(state) for state in MOVES[event].sources if state is not None]
    return _ROW.state == sources[0] if len(sources) == 1 else _ROW.state.in_(sources)


def _leads_to(event: Event) -> dict[str, Any]:
    target = MOVES[event].target
    assert target is not None
    return {"state": constant(target)}


def stored(name: str) -> ScalarSelect[Any]:
    """Read a setting of the cache inside a statement; NULL where it was never changed."""
    return select(setting.c.value).where(setting.c.name == constant(name)).scalar_subquery()


def _given_or_stored(name: str, default: int) -> ColumnElement[Any]:
    """Read a setting inside a statement: the handle's own, else the cache's, else the default."""
    return func.coalesce(given(name), stored(name), constant(default))


_MAX_RETRIES = _given_or_stored("max_retries", config.MAX_RETRIES)
_COOLDOWN = _given_or_stored("retry_cooldown", to_micros(config.RETRY_COOLDOWN))
_TIMEOUT = _given_or_stored("prepare_timeout", to_micros(config.PREPARE_TIMEOUT))
_ONE_MORE = _ROW.num_failures + constant(1)
# Deaths in quick succession add up, older ones are forgotten: see `registry.config`.
_FORGOTTEN = and_(
    _ROW.error_kind.in_([constant("host_died"), constant("deadline")]),
    _ROW.last_time_failed <= given("now") - constant(to_micros(config.DEATHS_COUNT_FOR)),
)
_ONE_MORE_DEATH = case((_FORGOTTEN, constant(1)), else_=_ONE_MORE)
_ANOTHER_FAILURE = {
    "num_failures": _ONE_MORE,
    "last_time_failed": given("now"),
    "error": given("error"),
    "error_kind": given("kind"),
}
_MY_CLAIM = {
    "path": given("my_path"),
    "token": given("my_token"),
    "host_id": given("my_host"),
    "claimed_at": given("now"),
    "deadline": given("now") + _TIMEOUT,
}


def _claim() -> Any:
    row = insert(artifact).values(
        code_hash=given("code"),
        prep_hash=given("prep"),
        created_at=given("now"),
        label=given("label"),
        kind=given("made_by"),
        **_leads_to(Event.CLAIM),
        **_MY_CLAIM,
    )
    return row.on_conflict_do_update(
        index_elements=["code_hash", "prep_hash"],
        set_={
            **_leads_to(Event.CLAIM),
            **_MY_CLAIM,
            "label": func.coalesce(given("label"), _ROW.label),
            "kind": func.coalesce(given("made_by"), _ROW.kind),
            "num_failures": case((_FORGOTTEN, constant(0)), else_=_ROW.num_failures),
        },
        where=and_(_may(Event.CLAIM), or_(given("anyway"), MAY_BE_TRIED)),
    )


def _change(event: Event, guard: ColumnElement[bool], **values: Any) -> Any:
    stays = MOVES[event].sources == (MOVES[event].target,)  # then no trigger on state need run
    moved = {} if stays else _leads_to(event)
    return update(artifact).values(**moved, **values).where(guard, _may(event))


def _end(event: Event, guard: ColumnElement[bool]) -> Any:
    return delete(artifact).where(guard, _may(event))


def _transition(event: Event, says: str, clause: Any, *, durable: bool = False) -> Statement:
    returning = clause.returning(*_ROW)
    return compiled(event.value, says, returning, writes=True, durable=durable)


TRANSITIONS: Mapping[Event, Statement] = MappingProxyType(
    {
        Event.CLAIM: _transition(
            Event.CLAIM,
            "Claim an artifact without a row, or a failed one that may be tried again.",
            _claim(),
        ),
        Event.TAKE_OVER: _transition(
            Event.TAKE_OVER,
            "Take over a claim whose host died or is late, and count that as a failure.",
            _change(
                Event.TAKE_OVER,
                and_(_AS_SEEN, _ONE_MORE_DEATH <= _MAX_RETRIES),
                **{**_ANOTHER_FAILURE, "num_failures": _ONE_MORE_DEATH},
                **_MY_CLAIM,
                retry_at=given("now"),
                label=func.coalesce(given("label"), _ROW.label),
                kind=func.coalesce(given("made_by"), _ROW.kind),
            ),
        ),
        Event.REAP: _transition(
            Event.REAP,
            "End a claim whose host died or is late, and record a failure.",
            _change(
                Event.REAP,
                _AS_SEEN,
                **_ANOTHER_FAILURE,
                **_NO_FILE,
                **_NO_CLAIM,
                retry_at=case((_ONE_MORE <= _MAX_RETRIES, given("now"))),
            ),
        ),
        Event.REAP_HOST: _transition(
            Event.REAP_HOST,
            "End all claims of a dead host, and record a failure for each.",
            _change(
                Event.REAP_HOST,
                _ROW.host_id == given("seen_host"),
                **_ANOTHER_FAILURE,
                **_NO_FILE,
                **_NO_CLAIM,
                retry_at=case((_ONE_MORE <= _MAX_RETRIES, given("now"))),
            ),
        ),
        Event.PUBLISH: _transition(
            Event.PUBLISH,
            "End a claim: the artifact is prepared, and its file is in place.",
            _change(
                Event.PUBLISH,
                _MINE,
                size=given("size"),
                checksum=given("checksum"),
                last_time_needed=given("now"),
                prepare_seconds=given("seconds"),
                **_NO_FAILURE,
                **_NO_CLAIM,
            ),
        ),
        Event.FAIL: _transition(
            Event.FAIL,
            "End a claim: the artifact failed.",
            _change(
                Event.FAIL,
                _MINE,
                **_ANOTHER_FAILURE,
                **_NO_FILE,
                **_NO_CLAIM,
                retry_at=case(
                    (
                        and_(given("retryable"), _ONE_MORE <= _MAX_RETRIES),
                        given("now") + _COOLDOWN,
                    )
                ),
            ),
        ),
        Event.RELEASE: _transition(
            Event.RELEASE,
            "Release the claim of an artifact that never failed: delete its row.",
            _end(Event.RELEASE, and_(_MINE, _ROW.last_time_failed.is_(None))),
        ),
        Event.RESTORE: _transition(
            Event.RESTORE,
            "Release the claim of an artifact that failed before: restore that failure.",
            _change(
                Event.RESTORE,
                and_(_MINE, _ROW.last_time_failed.is_not(None)),
                **_NO_FILE,
                **_NO_CLAIM,
            ),
        ),
        Event.EXTEND: _transition(
            Event.EXTEND,
            "Move the deadline of a claim.",
            _change(
                Event.EXTEND,
                _MINE,
                # No claim was made later than now: the clock was set back. `dated` is now where it
                # was set forth, which may be wrong: then the deadline shows it by this time.
                claimed_at=func.min(func.max(_ROW.claimed_at, given("dated")), given("now")),
                deadline=given("now") + given("prepare_timeout"),
            ),
        ),
        Event.REDATE: _transition(
            Event.REDATE,
            "Restart the deadline of a claim that was made before the clock was set back.",
            _change(
                Event.REDATE,
                and_(_AS_SEEN, ahead(_ROW.claimed_at), _ROW.deadline > _ROW.claimed_at),
                claimed_at=given("now"),
                deadline=given("now") + _ROW.deadline - _ROW.claimed_at,
            ),
        ),
        # The most frequent one. It returns only what the caller does not know: how often to write.
        Event.NEED: compiled(
            Event.NEED.value,
            "Note that a prepared artifact is needed now.",
            _change(
                Event.NEED,
                and_(_THIS, _ROW.path == given("seen_path")),
                last_time_needed=given("now"),
            ).returning(stored("min_stale_time")),
            writes=True,
        ),
        Event.PRUNE: _transition(
            Event.PRUNE,
            "Delete the least recently needed artifacts until the rest is within the limit.",
            _end(Event.PRUNE, oldest_over_the_limit()),
            durable=True,
        ),
        Event.FORGET: _transition(
            Event.FORGET,
            "Delete failures that are too old, too many or too long, the oldest first.",
            _end(Event.FORGET, failures_to_forget()),
        ),
        Event.REMOVE: _transition(
            Event.REMOVE,
            "Delete an artifact by hand.",
            _end(Event.REMOVE, _THIS),
            durable=True,
        ),
        Event.DISCARD: _transition(
            Event.DISCARD,
            "Delete the row of a file that is missing or damaged.",
            _end(Event.DISCARD, and_(_THIS, _ROW.path == given("seen_path"))),
            durable=True,
        ),
        Event.RETRY: _transition(
            Event.RETRY,
            "Allow another try of a failed artifact at once, however often it failed.",
            _change(Event.RETRY, _THIS, num_failures=constant(0), retry_at=given("now")),
        ),
    }
)
