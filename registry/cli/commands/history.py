"""What happened to an artifact, and why it was prepared again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from registry.cli.commands.artifacts import state_now
from registry.cli.completion import complete_ids
from registry.cli.session import Session, in_session
from registry.cli.units import coarse_span, near_command, near_size, near_span

if TYPE_CHECKING:
    from registry import ArtifactId, HistoryEvent

__all__ = ["Story", "reason", "why"]

_COMMAND_WIDTH = 60
# Why an artifact was pruned, and how else it ended.
_LIMITS = {
    "cache_limit": "to keep within cache_limit",
    "hard_limit": "to keep within hard_limit",
    "disk_full": "because the disk was full",
    "asked": "by a limit given to prune",
}
_ENDS = {
    "removed": "removed by hand",
    "missing": "found without its file",
    "damaged": "found damaged",
    "hostile": "found with a path outside the cache",
}


@dataclass(frozen=True, slots=True)
class Story:
    """The history of one artifact; `state` None: it is gone."""

    id: ArtifactId
    label: str | None
    state: str | None
    why: str
    now: str
    events: Sequence[HistoryEvent]


@click.command()
@in_session
@click.argument("prefix", metavar="ID-PREFIX", shell_complete=complete_ids)
def why(session: Session, prefix: str) -> None:
    """Show why an artifact was prepared again, and its other events.

    It may already be gone. The cache keeps its last 10,000 events.
    """
    named = session.find(prefix, past=True)
    artifact = session.registry.get(named)
    events = session.registry.history(named)
    label = next((event.label for event in reversed(events) if event.label), None)
    state = artifact.state.value if artifact else None
    now = state_now(artifact) if artifact else _gone(events)
    story = Story(named, artifact.label if artifact else label, state, reason(events), now, events)
    session.write(story, _lines(story))


def reason(events: Sequence[HistoryEvent]) -> str:
    """Explain the last preparation of an artifact by the events before it."""
    made = [n for n, event in enumerate(events) if event.event == "published"]
    if not made:
        return "no preparation is recorded"
    before = events[: made[-1]]
    ends = _ends(before)
    words = "the first recorded preparation"
    if ends:
        words = f"it was prepared again because it had been {_how(before[ends[-1]])}"
    failed = [e for e in before[ends[-1] if ends else 0 :] if e.event in ("failed", "reaped")]
    if not failed:
        return words
    times = "once" if len(failed) == 1 else f"{len(failed)} times"
    return f"{words}; it failed {times} before, the last time with: {_one_line(failed[-1].error)}"


def _ends(events: Sequence[HistoryEvent]) -> list[int]:
    """Find the events that end the artifact; a publish implies an unrecorded end."""
    return [n for n, e in enumerate(events) if e.event in ("published", "pruned", *_ENDS)]


def _how(event: HistoryEvent) -> str:
    """Describe how an artifact ended, what it was, and by which process."""
    if event.event == "published":
        return "lost without a record"
    how = _ENDS.get(event.event) or f"pruned {_LIMITS.get(event.reason or '', '')}".rstrip()
    what = _what_went(event)
    return f"{how}{what and f' ({what})'} by {_who(event)}"


def _lines(story: Story) -> Iterator[str]:
    count = sum(event.event == "published" for event in story.events)
    yield f"artifact  {story.label or '-'} ({story.id.short})"
    yield f"state     {story.now}"
    yield f"prepared  {count} {'time' if count == 1 else 'times'}"
    yield f"why       {story.why}"
    for event in story.events:
        words = filter(None, (*_happened(event), f"by {_who(event)}"))
        yield f"{event.at:%Y-%m-%d %H:%M:%S} UTC  {event.event:<10}  {', '.join(words)}"


def _gone(events: Sequence[HistoryEvent]) -> str:
    ends = _ends(events)
    return f"gone: {_how(events[ends[-1]])}" if ends else "gone"


def _happened(event: HistoryEvent) -> tuple[str | None, ...]:
    match event.event:
        case "claimed" | "released":
            return ()
        case "published":
            made = f"{near_size(event.size or 0)} in {near_span(event.prepare_seconds or 0)}"
            gone = event.evicted_for
            return made, None if gone is None else f"{coarse_span(gone)} after it was pruned"
        case "failed" | "reaped":
            return event.reason, _one_line(event.error)
        case _:
            return event.reason, _what_went(event)


def _one_line(error: str | None) -> str | None:
    """Join the lines of an error, as compilers write them."""
    return error and "; ".join(filter(None, map(str.strip, error.splitlines())))


def _what_went(event: HistoryEvent) -> str:
    """Describe the size, time since the last need, and preparation time."""
    words = []
    if event.size is not None:
        words.append(near_size(event.size))
    if event.last_time_needed is not None:
        idle = max(event.at - event.last_time_needed, timedelta(0))
        words.append(f"not needed for {coarse_span(idle)}")
    if event.prepare_seconds is not None:
        words.append(f"prepared in {near_span(event.prepare_seconds)}")
    return ", ".join(words)


def _who(event: HistoryEvent) -> str:
    if event.pid is None:
        return f"host {(event.host_id or 'unknown')[:12]}"
    return f"process {event.pid} ({near_command(event.command or '', _COMMAND_WIDTH)})"
