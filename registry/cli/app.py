"""The command, put together from its groups; each group is a file that knows nothing of others."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli import (
    artifacts,
    database,
    health,
    history,
    metrics,
    preparing,
    report,
    running,
    settings,
    upkeep,
    watch,
)
from registry.cli.completion import InstallOption, ShowOption
from registry.cli.options import CacheOption, JsonOption, shared_options
from registry.version import __version__

__all__ = ["app"]

# The \b keeps the lines as they are.
EXIT_CODES = """\b
Exit codes:
  0        done
  1        something failed, or is not there
  2        misuse
  3        the cache cannot be used
  128 + N  stopped by signal N
"""

app = typer.Typer(
    name="registry",
    add_completion=False,  # ours need not guess which shell runs: see registry.cli.completion
    rich_markup_mode=None,  # plain help, as other tools have it, and quick
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def registry(
    context: typer.Context,
    cache: CacheOption = None,
    json: JsonOption = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
    _show: ShowOption = None,
    _install: InstallOption = None,
) -> None:
    """Each artifact compiled once per machine: a persistent, shared, bounded cache."""
    shared_options(context, cache=cache, json=json)


GROUPS = (running, preparing, artifacts, history, upkeep, watch, report, health, metrics)
for group in GROUPS:
    app.add_typer(group.app)
app.add_typer(settings.app, name="config")
app.add_typer(database.app, name="db")
