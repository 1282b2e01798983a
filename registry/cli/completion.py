"""What a shell asks when a person presses the tab key, and the script that makes it ask."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

__all__ = ["InstallOption", "ShowOption", "complete"]

_VARIABLE = "_REGISTRY_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


def complete(command: Any) -> bool:
    """Answer the shell, if it is a shell that asks; whether it was."""
    instruction = os.environ.get(_VARIABLE)
    if not instruction:
        return False
    from typer.completion import completion_init, shell_complete  # type: ignore[attr-defined]

    completion_init()
    shell_complete(command, {}, "registry", _VARIABLE, instruction)
    return True


def _shell(name: str) -> str:
    if name not in _SHELLS:
        raise typer.BadParameter(f"{name[:40]!r} is none of {', '.join(_SHELLS)}")
    return name


def _show(shell: str | None) -> None:
    if shell is not None:
        from typer.completion import get_completion_script  # type: ignore[attr-defined]

        script = get_completion_script(prog_name="registry", complete_var=_VARIABLE, shell=shell)
        typer.echo(script)
        raise typer.Exit


def _install(shell: str | None) -> None:
    if shell is not None:
        from typer.completion import install  # type: ignore[attr-defined]

        _, path = install(shell=shell, prog_name="registry", complete_var=_VARIABLE)
        typer.echo(f"installed in {path}; a new shell will complete what is typed")
        raise typer.Exit


ShowOption = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        callback=_show,
        parser=_shell,
        is_eager=True,
        metavar="SHELL",
        help=f"Print the script that completes commands in {', '.join(_SHELLS)}.",
    ),
]
InstallOption = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        callback=_install,
        parser=_shell,
        is_eager=True,
        metavar="SHELL",
        help="Write it where the shell looks for it.",
    ),
]
