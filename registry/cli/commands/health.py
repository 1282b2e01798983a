"""Which processes use the cache, and whether its environment is sound."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from registry.cli import exits
from registry.cli.session import Session, in_session
from registry.cli.units import near_age, near_command

if TYPE_CHECKING:
    from registry.doctor import Finding
    from registry.verbs.hosts import HostInfo

__all__ = ["doctor", "hosts"]

_COMMAND_WIDTH = 40
_COLUMNS = (
    ("HOST", "<12"),
    ("PROCESS", "<9"),
    ("SINCE", "<8"),
    ("COMMAND", f"<{_COMMAND_WIDTH}"),
    ("PREPARES", ""),
)


@click.command()
@in_session
def hosts(session: Session) -> None:
    """List the processes that use the cache, including this one, and their preparations."""
    session.write_list(session.registry.hosts(), _COLUMNS, _row)


@click.command()
@in_session
def doctor(session: Session) -> None:
    """Check what the cache depends on, and advise; works even if it cannot be opened.

    It looks before it opens the cache, and creates none. The exit code is 1 if there is a problem,
    and 3 if there is no cache.
    """
    from registry.doctor import examine_path

    findings = examine_path(session.cache_name)
    session.write(findings, _lines(findings))
    if any(finding.verdict == "problem" for finding in findings):
        raise click.exceptions.Exit(exits.FAILED)
    if not session.has_cache:
        raise click.exceptions.Exit(exits.UNUSABLE)


def _row(host: HostInfo) -> tuple[str, ...]:
    elsewhere = "" if host.hostname == os.uname().nodename else f" on {host.hostname}"
    return (
        host.id[:12],
        str(host.pid) if host.alive else "dead",
        near_age(host.opened_at, datetime.now(UTC)),
        near_command(host.command, max(_COMMAND_WIDTH - len(elsewhere), 12))
        + elsewhere,  # in a container, say
        ", ".join(map(str, host.prepares)) or "-",
    )


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Return a line for each finding, and one below with the advice."""
    for finding in findings:
        yield f"{finding.verdict:<7}  {finding.name:<17}  {finding.value}"
        if finding.advice:
            yield f"{'':<9}-> {finding.advice}"
