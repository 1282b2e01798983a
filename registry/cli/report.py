"""A page about the cache, to be looked at in a browser, kept, or sent to somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from registry.cli.session import Session, in_session

__all__ = ["app"]

app = typer.Typer()


@app.command()
@in_session
def report(
    session: Session,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the page here; it replaces the file."),
    ] = None,
) -> None:
    """Write a page about the cache, for a browser.

    Its size by age, its past, what pruning would free, what was dear. The page is one file, with
    names and sizes in it but no artifacts; no network is asked when it is opened. With --json the
    figures are printed.
    """
    from registry.cli.figures import collect
    from registry.cli.page import page

    if html is None and not session.json:
        raise typer.BadParameter("say which file to write", param_hint="'--html'")
    figures = collect(session.registry)
    if html is not None:
        html.write_text(page(figures), encoding="utf-8")
        session.note(f"written to {html}")
    if session.json:
        session.write(figures, ())
