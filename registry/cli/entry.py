"""Run the command once, from its arguments to its exit code."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import click

from registry.cli import exits
from registry.cli.app import app
from registry.cli.completion import complete
from registry.cli.log import told
from registry.cli.options import Options
from registry.errors import RegistryError
from registry.verbs.boundary import is_internal, outward

__all__ = ["run"]


def run(arguments: list[str]) -> int:
    """Run the command; expected errors become a sentence on stderr and an exit code."""
    _prepare_streams()
    options = Options()
    with told(options):
        return _answer(arguments, options)


def _answer(arguments: list[str], options: Options) -> int:
    try:
        code = _invoke(list(arguments), options)
        sys.stdout.flush()  # here a full disk is still reported without a traceback
        return code
    except click.ClickException as misuse:
        # Parsing may have failed before --json.
        as_json = options.json or "--json" in arguments
        exits.complain_of("Misuse", _with_hint(misuse), as_json=as_json)
        return exits.MISUSE
    except BrokenPipeError:
        raise
    except (RegistryError, OSError) as error:
        return _complain(error, options)
    except Exception as error:
        if not is_internal(error):
            raise
        return _complain(outward(error), options)  # of what has no verb around it


def _complain(error: Exception, options: Options) -> int:
    exits.complain(error, as_json=options.json)
    return exits.exit_code(error)


def _invoke(arguments: list[str], options: Options) -> int:
    # Not Click's own `main`: it handles interruptions and broken pipes differently.
    if complete(app):
        return exits.DONE
    try:
        with app.make_context("registry", arguments, obj=options) as context:
            app.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return exits.DONE


def _prepare_streams() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The caller closed it. The next file that we open would get its number, and
            # receive what is printed.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        # A name that cannot be encoded must not end a list.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _with_hint(misuse: click.ClickException) -> str:
    message = misuse.format_message()
    context: click.Context | None = getattr(misuse, "ctx", None)
    return f"{message}\ntry '{context.command_path} --help'" if context else message
