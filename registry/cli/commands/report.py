"""A page about the cache, to view in a browser, to keep or to send."""

from __future__ import annotations

from pathlib import Path

import click

from registry.cli.options import file_name
from registry.cli.session import Session, in_session

__all__ = ["report"]


@click.command()
@in_session
@click.option(
    "--html",
    type=file_name,
    metavar="FILE",
    help="Write the page here; it replaces the file. `-` is stdout.",
)
def report(session: Session, html: Path | None) -> None:
    """Write a page about the cache, for a browser.

    It shows the size by age, the use over time, what pruning would free and the most expensive
    artifacts. The page is one file with names and sizes, without artifacts; it loads nothing from
    the network. With --json the figures are printed.
    """
    from registry.cli.report.figures import collect
    from registry.cli.report.page import page

    if html is None and not session.json:
        raise click.BadParameter("name the file to write", param_hint="'--html'")
    to_stdout = html == Path("-")
    if to_stdout and session.json:
        raise click.BadParameter("with --json, name a file", param_hint="'--html'")
    figures = collect(session.registry)
    if to_stdout:
        click.echo(page(figures).encode(), nl=False)
    elif html is not None:
        html.write_text(page(figures), encoding="utf-8")
        session.note(f"written to {html}")
    if session.json:
        session.write(figures, ())
