"""One run of a verb: it opens the registry, writes results, and closes everything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import click

from registry.artifact import ArtifactId, split_prefix
from registry.cli import exits, output
from registry.cli.options import Options, shared_options, with_shared_options
from registry.errors import CacheDirectoryRefused

if TYPE_CHECKING:
    from pathlib import Path

    from registry import Registry

__all__ = ["Session", "in_session"]

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """One run of a verb. The registry is opened at first use, and always closed."""

    def __init__(self, context: click.Context, options: Options) -> None:
        self.context = context
        self.json = options.json
        self.quiet = options.json or options.quiet
        self.cache_name = options.cache_dir
        self.create = options.create
        self.failed = False
        self._open = ExitStack()

    @cached_property
    def cache_dir(self) -> Path:
        """The cache directory, absolute."""
        from registry.opening.directory import named_directory

        return named_directory(self.cache_name)

    @property
    def has_cache(self) -> bool:
        """Whether there is a cache, or what may be one."""
        from registry.opening.presence import has_cache

        return has_cache(self.cache_dir)

    @property
    def registry(self) -> Registry:
        """The open registry; raises `CacheDirectoryRefused` if there is no cache there."""
        from registry.opening.presence import no_cache

        if "registry_or_new" not in vars(self) and not self.has_cache:
            raise CacheDirectoryRefused(no_cache(self.cache_dir))
        return self.registry_or_new

    @cached_property
    def registry_or_new(self) -> Registry:
        """The open registry; a missing cache is created, among other things if asked for."""
        from registry import Registry

        self.require_room()
        return self._open.enter_context(Registry(self.cache_dir))

    def find(self, prefix: str, *, past: bool = False) -> ArtifactId:
        """Find an artifact by the start of its id, which is checked before the cache is opened."""
        split_prefix(prefix)
        return self.registry.find(prefix, past=past)

    def require_room(self) -> None:
        """Raise `CacheDirectoryRefused` if a new cache would lie among other things, unasked."""
        from registry.opening.presence import require_room_for_cache

        if not self.create:
            require_room_for_cache(self.cache_dir)

    def close(self) -> None:
        """Close the registry early."""
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
        """Write a list item by item; see `output.write_list`."""
        output.write_list(items, columns, row, as_json=self.json)

    def note(self, text: str) -> None:
        """Write a note to stderr; with --json or --quiet there are no notes."""
        if not self.quiet:
            sys.stdout.flush()  # the result comes first, even if both go to one file
            output.say(output.visible(text))

    def complain(self, error: Exception, *, about: str = "") -> None:
        """Report an error now, and exit with 1 at the end."""
        exits.complain(error, about=about, as_json=self.json)
        self.failed = True

    def repeat(self, said: Iterable[dict[str, dict[str, str]]]) -> None:
        """Report the errors and warnings that another process wrote as JSON."""
        for line in said:
            for kind, about in line.items():
                if self.json:
                    output.say(output.to_json(line))
                elif kind == "error":
                    exits.complain_of(about["type"], about["message"], as_json=False)
                else:
                    output.say("warning:", output.visible(about["message"]))
                self.failed |= kind == "error"

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
    """Make a function a command with the shared options; it gets a `Session` instead of them."""

    @click.pass_context
    @wraps(verb, updated=())
    def command(
        context: click.Context, /, *, cache: Any, json: Any, quiet: Any, **arguments: Any
    ) -> None:
        shared_options(context, cache=cache, json=json, quiet=quiet)
        with Session(context, context.ensure_object(Options)) as session:
            verb(session, **arguments)  # type: ignore[call-arg]

    declared = with_shared_options(command)
    own = getattr(
        verb, "__click_params__", []
    )  # Click reverses the order: the verb's own come first
    declared.__click_params__ += own  # type: ignore[attr-defined]
    return declared
