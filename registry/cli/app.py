"""The command: its verbs, and the file of each verb."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

import click

from registry.cli.completion import completion_options
from registry.cli.options import InOrder, Options, shared_options, with_shared_options
from registry.version import __version__

__all__ = ["app"]

# The \b keeps Click from joining the lines.
EXIT_CODES = """\b
Exit codes:
  0        done
  1        something failed, or was not found
  2        misuse
  3        the cache cannot be used
  128 + N  stopped by signal N
"""

# In the order of the help. A file is imported only when its verb is used.
VERBS = MappingProxyType(
    {
        "run": "run",
        "prepare": "prepare",
        "ls": "artifacts",
        "show": "artifacts",
        "rm": "artifacts",
        "retry": "artifacts",
        "why": "history",
        "stats": "upkeep",
        "prune": "upkeep",
        "clear": "upkeep",
        "check": "upkeep",
        "watch": "watch",
        "report": "report",
        "hosts": "health",
        "doctor": "health",
        "metrics": "metrics",
        "config": "settings",
        "db": "database",
    }
)


class _Verbs(InOrder):
    def list_commands(self, _context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = getattr(
            import_module(f"registry.cli.commands.{VERBS[name]}"), name
        )
        return command


@click.group(
    name="registry",
    cls=_Verbs,
    epilog=EXIT_CODES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@with_shared_options
@click.version_option(__version__, message="%(version)s", help="Print it.")
@completion_options
@click.pass_context
def app(context: click.Context, *, cache: str | None, json: bool, quiet: bool) -> None:
    """Each artifact compiled once per machine: a persistent, shared, bounded cache."""
    shared_options(context, cache=cache, json=json, quiet=quiet)
    if context.invoked_subcommand is None:
        if context.ensure_object(Options).json:  # a program asked, and gets a document
            raise click.UsageError("Missing command.", context)
        click.echo(context.get_help())
