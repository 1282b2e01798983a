"""The options shared by all verbs, and the conversion of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "InOrder",
    "Options",
    "choose_from",
    "file_name",
    "read_by",
    "shared_options",
    "with_create",
    "with_kind",
    "with_shared_options",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_UNCUT = 1000  # characters: longer than any first sentence


@dataclass
class Options:
    """The options shared by all verbs, before or after the verb; the last one counts."""

    cache: Path | None = None
    json: bool = False
    quiet: bool = False
    create: bool = False  # a new cache even among other things

    @property
    def cache_dir(self) -> Path:
        """The cache directory to use."""
        if self.cache is not None:
            return self.cache
        from registry.opening.user_cache import user_cache_dir

        return user_cache_dir()


def with_shared_options(command: F) -> F:
    """Add the shared options to a command, after its own."""
    declare_cache = click.option(
        "--cache",
        metavar="DIR",
        help="The cache directory [default: $REGISTRY_CACHE, else the user's own].",
    )
    declare_json = click.option("--json", is_flag=True, help="Print one JSON document.")
    declare_quiet = click.option("--quiet", is_flag=True, help="Write no notes to stderr.")
    return declare_cache(declare_json(declare_quiet(command)))


def shared_options(context: click.Context, *, cache: str | None, json: bool, quiet: bool) -> None:
    """Store the shared options given at this place of the command line."""
    options = context.ensure_object(Options)
    if cache is not None:
        if not cache:
            raise click.BadParameter("the name of the directory is empty", param_hint="'--cache'")
        options.cache = Path(cache)
    options.json = options.json or json
    options.quiet = options.quiet or quiet


def with_create(command: F) -> F:
    """Add the option --create to a command that may create the cache."""

    def store(context: click.Context, _parameter: click.Parameter, create: bool) -> None:
        options = context.ensure_object(Options)
        options.create = options.create or create

    return click.option(
        "--create",
        is_flag=True,
        expose_value=False,
        callback=store,
        help="Create the cache even in a directory that holds other things.",
    )(command)


def read_by(parse: Callable[[str], T]) -> Callable[..., T | None]:
    """Convert an option with a function; its ValueError becomes a usage error."""

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return read


def with_kind(says: str) -> Callable[[F], F]:
    """Add the option --kind to a command."""

    def parse(text: str) -> str | None:
        from registry.errors import InvalidData
        from registry.verbs.text import as_kind

        try:
            return as_kind(text)
        except InvalidData as error:
            raise ValueError(str(error)) from None

    return click.option("--kind", callback=read_by(parse), metavar="KIND", help=says)


class InOrder(click.Group):
    """A group that lists its verbs in the order of their definition."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each verb's help in full; Click would cut it."""
        commands = [(name, self.get_command(context, name)) for name in self.list_commands(context)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, it.get_short_help_str(_UNCUT)) for name, it in commands if it is not None]
            )


def file_name(text: str) -> Path:
    """Read a file name; the code that opens the file reports if it is missing."""
    if "\0" in text:
        raise click.BadParameter("a file name must not contain NUL")
    return Path(text)


def choose_from(names: Callable[[], list[str]]) -> Callable[..., list[str]]:
    """Complete one of some names."""

    def offer(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
        return [name for name in names() if name.startswith(typed)]

    return offer
