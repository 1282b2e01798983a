"""The options that every verb has, before it or after it, and how a value becomes a misuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

__all__ = ["CacheOption", "JsonOption", "Options", "reading", "shared_options"]

T = TypeVar("T")

CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="The cache directory; else $REGISTRY_CACHE, else the user's own.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass
class Options:
    """The options every verb has, which may stand before it or after it: the last one counts."""

    cache: Path | None = None
    json: bool = False

    @property
    def cache_dir(self) -> Path:
        """The cache directory to use, as it was named."""
        if self.cache is not None:
            return self.cache
        from registry.shared import user_cache_dir

        return user_cache_dir()


def shared_options(
    context: typer.Context, *, cache: CacheOption = None, json: JsonOption = False
) -> None:
    """Take the shared options that stand at this place of the command line."""
    options = context.ensure_object(Options)
    if cache is not None:
        if not cache:
            raise typer.BadParameter("the name of the directory is empty", param_hint="'--cache'")
        options.cache = Path(cache)
    options.json = options.json or json


def reading(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make what a unit's reader objects to a misuse of the option it was written for."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return read
