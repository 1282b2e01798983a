"""The whole cache: its usage, pruning and checking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from registry.cli import exits
from registry.cli.commands.artifacts import COLUMNS, row
from registry.cli.options import read_by, with_create, with_kind
from registry.cli.report.alarms import alarms
from registry.cli.session import Session, in_session
from registry.cli.units import near_size, parse_size, parse_span
from registry.errors import DatabaseDamaged

if TYPE_CHECKING:
    from pathlib import Path

    from registry import CheckReport, Stats

__all__ = ["check", "clear", "prune", "stats"]

_PROBLEM = ("kind", "subject", "message")


@click.command()
@in_session
def stats(session: Session) -> None:
    """Show how full the cache is, and its limit."""
    figures = session.registry.stats()
    session.write(figures, [*_figures(figures), *_few_inodes(session.cache_dir)])


@click.command()
@in_session
@click.option(
    "--limit",
    callback=read_by(parse_size),
    metavar="SIZE",
    help="Keep at most this size, such as 5GiB.",
)
@click.option(
    "--min-stale",
    callback=read_by(parse_span),
    metavar="TIME",
    help="Keep artifacts needed within this time, such as 12h, 1d12h or 0.",
)
@with_kind("Only artifacts of this kind; only their bytes count.")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@with_create
def prune(
    session: Session,
    limit: int | None,
    min_stale: timedelta | None,
    kind: str | None,
    dry_run: bool,
) -> None:
    """Delete the least recently needed artifacts, down to the limit."""
    registry = session.registry if dry_run else session.registry_or_new
    pruned = registry.prune(cache_limit=limit, min_stale_time=min_stale, dry_run=dry_run, kind=kind)
    session.write_list(pruned, COLUMNS, row)
    freed = near_size(sum(artifact.size or 0 for artifact in pruned))
    session.note(f"artifacts {'to prune' if dry_run else 'pruned'}: {len(pruned)}, {freed}")
    forgotten = registry.counters.forgotten
    if forgotten:
        session.note(f"failures forgotten because of their limits: {forgotten}")


@click.command()
@in_session
@with_kind("Only artifacts of this kind.")
def clear(session: Session, kind: str | None) -> None:
    """Remove all prepared and failed artifacts.

    Nothing is asked. What is being prepared is left.
    """
    removed = session.registry.remove_all(kind=kind)
    session.write({"removed": removed}, [f"artifacts removed: {removed}"])


@click.command()
@in_session
@click.option("--repair", is_flag=True, help="Repair what can be repaired.")
@click.option("--checksums", is_flag=True, help="Also read every file and compare its checksum.")
@with_create
def check(session: Session, repair: bool, checksums: bool) -> None:
    """Compare the database and the files.

    The exit code is 1 if something is wrong, repaired or not. A repair moves a database with
    damaged pages aside, for `registry db recover`, and creates a new one.
    """
    report = _report(session, repair=repair, checksums=checksums)
    problems = [dict(zip(_PROBLEM, problem, strict=True)) for problem in report.problems]
    document = {"ok": report.ok, "repaired": report.repaired, "problems": problems}
    session.write(document, _findings(report))
    if not report.ok:
        _close(session)
        raise click.exceptions.Exit(exits.FAILED)


def _report(session: Session, *, repair: bool, checksums: bool) -> CheckReport:
    """Check the cache; a repair sets aside a database that cannot be repaired."""
    try:
        registry = session.registry_or_new if repair else session.registry
        report = registry.check(repair=repair, checksums=checksums)
    except DatabaseDamaged:
        set_aside = _set_aside(session) if repair else None
        if set_aside is None:
            raise
        return set_aside
    if repair and not report.repaired:
        return _set_aside(session) or report
    return report


def _set_aside(session: Session) -> CheckReport | None:
    from registry import CheckReport
    from registry.opening.cache import replace_damaged
    from registry.verbs.check import Problem

    _close(session)
    place = replace_damaged(session.cache_dir)
    if place is None:
        return None
    words = (
        f"it was set aside in {place}; run `registry db recover` to bring back what can be read, "
        "before another repair, which deletes files without a row"
    )
    return CheckReport([Problem("integrity", "registry.db", words)], repaired=True)


def _close(session: Session) -> None:
    with suppress(DatabaseDamaged):  # already reported; the handle could not remove its row
        session.close()


def _figures(figures: Stats) -> Iterator[str]:
    share = f"{near_size(figures.prepared_bytes)} of {near_size(figures.cache_limit)}"
    yield f"prepared   {figures.prepared_count}, {share}"
    yield f"preparing  {figures.preparing_count}"
    yield f"failed     {figures.failed_count}, {near_size(figures.failed_bytes)} of errors"
    for kind, held in figures.by_kind.items():
        failed = f", {held.failed_count} failed" if held.failed_count else ""
        yield f"{f'of {kind}':<10} {held.prepared_count}, {near_size(held.prepared_bytes)}{failed}"
    yield from _traffic(figures.totals)
    yield from alarms(figures)


def _few_inodes(cache: Path) -> Iterator[str]:
    """Warn if the file system is almost out of inodes; each artifact needs one."""
    from registry.doctor.disk import room

    for found in room(cache):
        if found.name == "inodes" and found.verdict != "ok":
            yield f"inodes     {found.value}; `registry doctor` says what to do"


def _traffic(totals: Mapping[str, int]) -> Iterator[str]:
    """Describe hits and evictions since the cache was created."""
    hits, waits = totals["hits"], totals["coalesced"]
    needs = hits + totals["misses"]
    if needs:
        yield f"needs      {needs}, {hits / needs:.1%} of them hits; {waits} waits for another"
    if totals["forgotten"]:
        yield f"forgotten  {totals['forgotten']} failures, because of their limits"
    if totals["pruned"]:
        size, again = near_size(totals["pruned_bytes"]), totals["rebuilt"]
        yield f"pruned     {totals['pruned']}, {size}; {again} prepared again since"


def _findings(report: CheckReport) -> Iterator[str]:
    for kind, subject, message in report.problems:
        yield f"{kind}: {subject}"
        yield f"    {message}"
    if report.ok:
        yield "all is in order"
