"""List, show, remove and retry artifacts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from registry.artifact import State
from registry.cli.completion import complete_ids
from registry.cli.options import choose_from, read_by, with_kind
from registry.cli.session import Session, in_session
from registry.cli.units import exact_size, near_age, near_size, near_span
from registry.errors import RegistryError, UnknownArtifact

if TYPE_CHECKING:
    from registry import Artifact

__all__ = ["COLUMNS", "ls", "retry", "rm", "row", "show", "state_now"]

COLUMNS = (("ID", "<25"), ("STATE", "<9"), ("SIZE", ">10"), ("NEEDED", ">8"), ("LABEL", ""))


_STATES = f"Only artifacts in this state: {', '.join(State)}."

_ORDERS: dict[str, Callable[[Artifact], Any] | None] = {
    "needed": None,  # as the registry lists them, without reading all
    "size": lambda artifact: -(artifact.size or 0),
    "label": lambda artifact: artifact.label or "",
}


def _parse_state(text: str) -> State:
    if text not in set(State):
        raise ValueError(f"{text[:40]!r} is not a state; use one of {', '.join(State)}")
    return State(text)


@click.command()
@in_session
@click.option(
    "--state",
    callback=read_by(_parse_state),
    metavar="STATE",
    help=_STATES,
    shell_complete=choose_from(lambda: list(State)),
)
@with_kind("Only artifacts of this kind, such as triton or python.")
@click.option("--label", metavar="TEXT", help="Only artifacts whose label contains this text.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="List at most N.")
@click.option(
    "--sort",
    type=click.Choice(list(_ORDERS)),
    default="needed",
    help="The order: most recently needed, largest, or by label [default: needed].",
)
def ls(
    session: Session,
    state: State | None,
    kind: str | None,
    label: str | None,
    limit: int | None,
    sort: str,
) -> None:
    """List the artifacts, the most recently needed first."""
    found: Iterable[Artifact] = session.registry.artifacts(state=state, kind=kind)
    if label is not None:
        found = (artifact for artifact in found if label in (artifact.label or ""))
    order = _ORDERS[sort]
    listed = islice(sorted(found, key=order) if order else found, limit)
    session.write_list(_totalled(session, listed), COLUMNS, row)


def _totalled(session: Session, listed: Iterable[Artifact]) -> Iterator[Artifact]:
    """Note the total after the list, for a person at a terminal."""
    count = size = 0
    for artifact in listed:
        yield artifact
        count, size = count + 1, size + (artifact.size or 0)
    if sys.stdout.isatty():
        session.note(f"artifacts: {count}, {near_size(size)}" if count else "no artifacts")


@click.command()
@in_session
@click.argument("prefix", metavar="ID-PREFIX", shell_complete=complete_ids)
def show(session: Session, prefix: str) -> None:
    """Show all details of one artifact.

    ID-PREFIX is the beginning of the code hash, or of both hashes: 62631e/0a4f.
    """
    artifact = _get(session, prefix)
    session.write(artifact, details(artifact))


@click.command()
@in_session
@click.argument(
    "prefixes", nargs=-1, required=True, metavar="ID-PREFIX...", shell_complete=complete_ids
)
def rm(session: Session, prefixes: tuple[str, ...]) -> None:
    """Remove artifacts and their files.

    An artifact that is being prepared is not removed.
    """
    removed = session.registry.remove
    _each(session, prefixes, lambda it: it if removed(it.id) else None, "is already gone")


@click.command()
@in_session
@click.argument(
    "prefixes", nargs=-1, required=True, metavar="ID-PREFIX...", shell_complete=complete_ids
)
def retry(session: Session, prefixes: tuple[str, ...]) -> None:
    """Allow failed artifacts to be prepared again.

    Nothing is prepared now; the next process that needs one prepares it.
    """
    registry = session.registry

    def allow(artifact: Artifact) -> Artifact | None:
        if not registry.retry(artifact.id):
            return None
        if artifact.retry_at is not None and artifact.retry_at <= datetime.now(UTC):
            session.note(f"{artifact} might be tried again already")
        return registry.get(artifact.id)

    _each(
        session,
        prefixes,
        allow,
        "has not failed, so there is nothing to retry",
    )


def row(artifact: Artifact) -> tuple[str, ...]:
    """Return the row of one artifact."""
    size, needed = artifact.size, artifact.last_time_needed
    return (
        artifact.id.short,
        artifact.state.value,
        near_size(size) if size is not None else "-",
        near_age(needed, datetime.now(UTC)) if needed else "-",
        artifact.label or "-",
    )


def details(artifact: Artifact) -> Iterator[str]:
    """Return the details of an artifact, a line each, without the unknown ones."""
    for name, value in _known(artifact):
        first, *rest = [""] if value is None else value.splitlines() or [""]
        if first or rest:
            yield f"{name:<17} {first}".rstrip()
        yield from (f"{'':<17} {line}".rstrip() for line in rest)


def _known(artifact: Artifact) -> Iterator[tuple[str, str | None]]:
    size, seconds, holder = artifact.size, artifact.prepare_seconds, artifact.holder
    yield "label", artifact.label
    yield "kind", artifact.kind
    yield "code hash", artifact.id.code_hash
    yield "preparation hash", artifact.id.prep_hash
    yield "state", artifact.state.value
    yield "path", str(artifact.path) if artifact.path else None
    yield "size", f"{near_size(size)} ({exact_size(size)})" if size is not None else None
    yield "checksum", artifact.checksum
    yield "last needed", _moment(artifact.last_time_needed)
    yield "prepared in", near_span(seconds) if seconds is not None else None
    yield "failures", str(artifact.num_failures) if artifact.num_failures else None
    yield "last failure", _moment(artifact.last_time_failed)
    yield "kind of failure", artifact.error_kind
    yield "error", artifact.error
    if artifact.state is State.FAILED:
        yield "may be retried", _when(artifact)
    if holder:
        process = f", process {holder.pid} on {holder.hostname}" if holder.pid else ""
        yield "prepared by", f"host {holder.host_id}{process}"
        yield "since", _moment(holder.since)


def _when(artifact: Artifact) -> str:
    """Say when a failed artifact is tried again."""
    if artifact.retry_at is None:
        return "only after `registry retry`"
    if artifact.retry_at <= datetime.now(UTC):
        return "now, when a process next needs it"
    return f"{_moment(artifact.retry_at)}, or after `registry retry`"


def state_now(artifact: Artifact) -> str:
    """Say in one line what is true of an artifact now."""
    holder = artifact.holder
    if holder is not None:
        process = f"process {holder.pid} on {holder.hostname}" if holder.pid else "a lost process"
        return f"{artifact.state.value} by {process}, since {_moment(holder.since)}"
    if artifact.state is State.FAILED:
        tried = f"{artifact.num_failures} {'time' if artifact.num_failures == 1 else 'times'}"
        return f"{artifact.state.value}, {tried}; may be tried again: {_when(artifact)}"
    return artifact.state.value


def _moment(time: datetime | None) -> str | None:
    if time is None:
        return None
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({near_age(time, datetime.now(UTC))})"


def _get(session: Session, prefix: str) -> Artifact:
    found = session.find(prefix)
    artifact = session.registry.get(found)
    if artifact is None:  # removed by another process between the two reads
        raise UnknownArtifact(f"{found.short} was removed just now")
    return artifact


def _each(
    session: Session,
    prefixes: Iterable[str],
    verb: Callable[[Artifact], Artifact | None],
    otherwise: str,
) -> None:
    """Apply a function to each artifact, report the failures, list the rest."""
    done = []
    for prefix in prefixes:
        try:
            artifact = _get(session, prefix)
            outcome = verb(artifact)
            if outcome is None:
                raise UnknownArtifact(f"{artifact} {otherwise}")
            done.append(outcome)
        except RegistryError as error:
            session.complain(error)
    session.write_list(done, COLUMNS, row)
