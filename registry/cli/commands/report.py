"""A page about the cache, to be looked at in a browser, kept, or sent to somebody."""

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
    help="Write the page here; it replaces the file.",
)
def report(session: Session, html: Path | None) -> None:
    """Write a page about the cache, for a browser.

    Its size by age, its past, what pruning would free, what was dear. The page is one file, with
    names and sizes in it but no artifacts; no network is asked when it is opened. With --json the
    figures are printed.
    """
    from registry.cli.report.figures import collect
    from registry.cli.report.page import page

    if html is None and not session.json:
        raise click.BadParameter("say which file to write", param_hint="'--html'")
    figures = collect(session.registry)
    if html is not None:
        html.write_text(page(figures), encoding="utf-8")
        session.note(f"written to {html}")
    if session.json:
        session.write(figures, ())
