"""Shell completion: answer the shell's requests, print and install its script."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from registry.artifact import split_prefix
from registry.cli.options import Options
from registry.cli.output import visible

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["complete", "complete_ids", "completion_options"]

F = TypeVar("F", bound=Callable[..., Any])

_VARIABLE = "_REGISTRY_COMPLETE"
_OFFERED = 100  # ids at once: more than a person reads
# Where each shell looks for a script; zsh and bash also need a line in their own file.
_SCRIPTS = {
    "bash": ".bash_completions/registry.sh",
    "zsh": ".zfunc/_registry",
    "fish": ".config/fish/completions/registry.fish",
}
_TOLD = {
    "bash": (".bashrc", "source '{script}'"),
    "zsh": (".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
}


def complete(command: click.Command) -> bool:
    """Answer the shell's request for completions; return whether there was one."""
    instruction = os.environ.get(_VARIABLE)
    if not instruction:
        return False
    from click.shell_completion import shell_complete

    shell_complete(command, {}, "registry", _VARIABLE, instruction)
    return True


def complete_ids(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Complete the id of an artifact; a cache that cannot be read completes nothing."""
    from registry.errors import RegistryError

    try:
        return list(islice(_ids(_cache_named_in(context), typed), _OFFERED))
    except (RegistryError, OSError, click.ClickException):
        return []  # an error would be written into the line that is typed


def _cache_named_in(context: click.Context) -> Path:
    named: click.Context | None = context
    while named is not None:
        if named.params.get("cache"):
            return Path(named.params["cache"])
        named = named.parent
    return Options().cache_dir


def _ids(place: Path, typed: str) -> Iterator[CompletionItem]:
    from click.shell_completion import CompletionItem

    from registry import Registry
    from registry.opening.directory import named_directory
    from registry.opening.presence import has_cache

    code, prep = split_prefix(typed) if typed else ("", "")
    cache = named_directory(place)
    if not has_cache(cache):
        return
    with Registry(cache) as registry:
        for it in registry.artifacts():
            if it.id.code_hash.startswith(code) and it.id.prep_hash.startswith(prep):
                fits = it.id.short.startswith(typed)
                name = it.id.short if fits else f"{it.id.code_hash}/{it.id.prep_hash}"
                yield CompletionItem(name, help=visible(it.label) if it.label else None)


def completion_options(command: F) -> F:
    """Add the options that print and install the script of a shell."""
    shells = ", ".join(_SCRIPTS)
    show = _option(
        "--show-completion", _show, f"Print the script that completes commands in {shells}."
    )
    install = _option(
        "--install-completion", _install, "Install the script where the shell looks for it."
    )
    return show(install(command))


def _option(name: str, act: Callable[[str], None], about: str) -> Callable[[F], F]:
    def called(context: click.Context, _parameter: click.Parameter, shell: str | None) -> None:
        if shell is not None:
            act(shell)
            context.exit()

    return click.option(
        name,
        type=click.Choice(list(_SCRIPTS)),
        callback=called,
        is_eager=True,
        expose_value=False,
        metavar="SHELL",
        help=about,
    )


def _script(shell: str) -> str:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    return kind(click.Command("registry"), {}, "registry", _VARIABLE).source()


def _show(shell: str) -> None:
    click.echo(_script(shell))


def _install(shell: str) -> None:
    home = Path.home()
    script = home / _SCRIPTS[shell]
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_script(shell), encoding="utf-8")
    if shell in _TOLD:
        name, line = _TOLD[shell]
        _tell(home / name, line.format(script=script))
    click.echo(f"installed in {script}; open a new shell to use it")


def _tell(startup: Path, line: str) -> None:
    """Add a line to the shell's startup file, unless it has it."""
    lines = startup.read_text(encoding="utf-8") if startup.exists() else ""
    if line not in lines.splitlines():
        startup.write_text(f"{lines.rstrip()}\n{line}\n".lstrip(), encoding="utf-8")
