"""One verb at work: it reads the registry, writes its results, and leaves nothing open."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import click

from registry.cli import exits, output
from registry.cli.options import Options, shared_options, with_shared_options

if TYPE_CHECKING:
    from pathlib import Path

    from registry import Registry

__all__ = ["Session", "in_session"]

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """One verb at work. The registry is opened when first used, and closed whatever happens."""

    def __init__(self, context: click.Context, options: Options) -> None:
        self.context = context
        self.json = options.json
        self.cache_name = options.cache_dir
        self.failed = False
        self._open = ExitStack()

    @cached_property
    def cache_dir(self) -> Path:
        """The cache directory, absolute."""
        from registry.opening.directory import named_directory

        return named_directory(self.cache_name)

    @cached_property
    def registry(self) -> Registry:
        from registry import Registry

        return self._open.enter_context(Registry(self.cache_dir))

    def close(self) -> None:
        """Close the registry before its time."""
        self._open.close()

    def write(self, document: object, lines: Iterable[str], *, exact: bool = False) -> None:
        """Write the one result; see `output.write`."""
        output.write(document, lines, as_json=self.json, exact=exact)

    def write_list(
        self,
        items: Iterable[T],
        columns: Sequence[output.Column],
        row: Callable[[T], Sequence[str]],
    ) -> None:
        """Write the results, each as it comes."""
        output.write_list(items, columns, row, as_json=self.json)

    def note(self, text: str) -> None:
        """Tell people something beside the result; programs asked for the result only."""
        if not self.json:
            sys.stdout.flush()  # the result comes first, even where both go to one file
            output.say(output.visible(text))

    def complain(self, error: Exception, *, about: str = "") -> None:
        """Report an error, go on with the rest, and fail at the end."""
        exits.complain(error, about=about, as_json=self.json)
        self.failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)
        if self.failed and error is None:
            raise click.exceptions.Exit(exits.FAILED)


def in_session(verb: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Make a verb a command: give it the shared options, and its `Session` in their place."""

    @click.pass_context
    @wraps(verb, updated=())
    def command(context: click.Context, /, *, cache: Any, json: Any, **arguments: Any) -> None:
        shared_options(context, cache=cache, json=json)
        with Session(context, context.ensure_object(Options)) as session:
            verb(session, **arguments)  # type: ignore[call-arg]

    declared = with_shared_options(command)
    own = getattr(verb, "__click_params__", [])  # Click reverses them: its own come first
    declared.__click_params__ += own  # type: ignore[attr-defined]
    return declared
