"""Run WebAssembly: compile it if needed, then call a function or run a WASI command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.cli import exits
from registry.cli.commands.prepare import Found, artifact_of, name_of
from registry.cli.options import file_name, with_create
from registry.cli.session import Session, in_session
from registry.cli.units import near_span
from registry.errors import InvalidCandidate

if TYPE_CHECKING:
    from registry import Artifact
    from registry.wasm import Program, Result

__all__ = ["run"]

# The kind of `registry.wasm.InvalidRequest`, which is all that arrives from a worker.
INVALID_REQUEST = "invalid_request"


class _Running(click.Command):
    """Pass what follows FILE to the module, except the arguments of a function."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Among numbers, our options may stand anywhere; -5 is not an option.
        ctx.allow_interspersed_args = ctx.ignore_unknown_options = _calls_a_function(args)
        return super().parse_args(ctx, args)


def _calls_a_function(args: Sequence[str]) -> bool:
    """Whether there is an --invoke before FILE, or right after it."""
    words = iter(args)
    for word in words:
        if word == "--":
            return False
        if word.partition("=")[0] == "--invoke":
            return True
        if word == "--cache":
            next(words, None)
        elif not word.startswith("-"):
            return next(words, "").partition("=")[0] == "--invoke"
    return False


@click.command(cls=_Running)
@in_session
@click.argument("file", type=file_name, metavar="FILE")
@click.argument("arguments", nargs=-1, metavar="[--invoke NAME] [ARGS]...")
@click.option("--invoke", metavar="NAME", help="Call this exported function, with ARGS.")
@click.option("--isolate", is_flag=True, help="Compile and run in killable processes.")
@with_create
def run(
    session: Session, file: Path, arguments: tuple[str, ...], invoke: str | None, isolate: bool
) -> None:
    """Run a module: a WASI command, or with --invoke one of its functions.

    The module has the terminal's input and output, and no files. Everything after FILE goes to the
    module. If --invoke follows FILE at once, options may stand anywhere after it, and -- ends them.
    With --json the output is captured into the document. The exit code is the module's.

    With --isolate the code cannot harm this process or open a file, even if it breaks out of
    wasmtime (`doctor` shows whether the kernel can do that); input and output are passed as a
    whole.
    """
    args = list(arguments)
    if invoke is None and args[:1] == ["--"]:
        del args[0]
    code, name = file.read_bytes(), name_of(file)
    request = {"name": name, "invoke": invoke, "args": args}
    with _misuse_told(session):
        if isolate:
            found, result = _run_isolated(session, code, request, name)
        else:
            found = artifact_of(session.registry_or_new, code, name)
            session.note(_report(found, name))
            result = _run(session, found, request)
    session.write(_document(found, result), map(str, result["values"]))
    raise click.exceptions.Exit(result["exit_code"])


@contextmanager
def _misuse_told(session: Session) -> Iterator[None]:
    """Turn a request that does not fit the module into a usage error."""
    try:
        yield
    except InvalidCandidate as error:
        if error.kind != INVALID_REQUEST:
            raise
        exits.complain_of("InvalidRequest", str(error), as_json=session.json)
        raise click.exceptions.Exit(exits.MISUSE) from None


def _report(found: Found, name: str) -> str:
    done = "compiled" if found.outcome == "miss" else "found"
    return f"{found.outcome}: {name} {done} in {near_span(found.seconds)}"


def _run(session: Session, found: Found, request: dict[str, Any]) -> Result:
    """Run it with our input and output; with --json the output is captured."""
    request |= {"stdin": _input()} if session.json else {"ambient": True}
    return _load(session, found.artifact).run(request)


def _load(session: Session, artifact: Artifact) -> Program:
    """Load the artifact just found or compiled, already checked; it may be pruned by now."""
    from registry import wasm

    assert artifact.path is not None
    try:
        return wasm.load(artifact.path)
    except FileNotFoundError:
        with session.registry_or_new.open_file(artifact.id) as file:
            return wasm.load(file)


def _run_isolated(
    session: Session, code: bytes, request: dict[str, Any], name: str
) -> tuple[Found, Result]:
    from registry.cli.isolation import run_isolated

    session.require_room()
    found, result = run_isolated(session.cache_dir, code, {**request, "stdin": _input()}, name)
    session.note(_report(found, name))
    if not session.json:
        sys.stdout.buffer.write(result["stdout"])
        sys.stdout.flush()
        sys.stderr.buffer.write(result["stderr"])
    return found, result


def _input() -> bytes:
    return b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()


def _document(found: Found, result: Result) -> dict[str, Any]:
    from registry import wasm

    return {
        "code_hash": found.artifact.id.code_hash,
        "prep_hash": found.artifact.id.prep_hash,
        "outcome": found.outcome,
        "seconds": found.seconds,
        **wasm.as_json(result),
    }
