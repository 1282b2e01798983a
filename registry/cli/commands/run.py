"""Run WebAssembly: compile it if nobody has, then call a function or be a WASI command's shell."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.cli import exits
from registry.cli.commands.prepare import Found, artifact_of, name_of
from registry.cli.options import file_name
from registry.cli.session import Session, in_session
from registry.cli.units import near_span
from registry.errors import InvalidCandidate

if TYPE_CHECKING:
    from registry import Artifact
    from registry.wasm import Program, Result

__all__ = ["run"]

# The kind of `registry.wasm.InvalidRequest`, all that is left of it when a worker raised it.
INVALID_REQUEST = "invalid_request"


class _Running(click.Command):
    """Leave what follows FILE to the module, but for the numbers that a function is called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Among numbers, ours may stand anywhere; and -5 is none of them.
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
@click.option("--isolate", is_flag=True, help="Compile and run in processes that can be killed.")
def run(
    session: Session, file: Path, arguments: tuple[str, ...], invoke: str | None, isolate: bool
) -> None:
    """Run a module: a WASI command, or with --invoke one of its functions.

    It has the terminal's input and output and sees no files. Everything after FILE is the
    module's, but for an --invoke that follows at once, after which our options may stand anywhere,
    and a -- that ends them. With --json its output is captured and becomes part of the document.
    The exit code is the module's.

    With --isolate nothing that the code does can harm this process, nor reach a file, even if it
    breaks out of wasmtime (see `doctor` for whether the kernel can do that); its input and output
    are handed over as a whole.
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
            found = artifact_of(session.registry, code, name)
            session.note(_report(found, name))
            result = _run(session, found, request)
    session.write(_document(found, result), map(str, result["values"]))
    raise click.exceptions.Exit(result["exit_code"])


@contextmanager
def _misuse_told(session: Session) -> Iterator[None]:
    """Let a request that does not fit the module be a mistake on the command line."""
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
    """Run it with our own input and output; captured, where they are to be part of a document."""
    request |= {"stdin": _input()} if session.json else {"ambient": True}
    return _load(session, found.artifact).run(request)


def _load(session: Session, artifact: Artifact) -> Program:
    """Load what was found or made just now, and so was checked; it may have been pruned since."""
    from registry import wasm

    assert artifact.path is not None
    try:
        return wasm.load(artifact.path)
    except FileNotFoundError:
        with session.registry.open_file(artifact.id) as file:
            return wasm.load(file)


def _run_isolated(
    session: Session, code: bytes, request: dict[str, Any], name: str
) -> tuple[Found, Result]:
    from registry.cli.isolation import run_isolated

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
    return {
        "code_hash": found.artifact.id.code_hash,
        "prep_hash": found.artifact.id.prep_hash,
        "outcome": found.outcome,
        "seconds": found.seconds,
        # JSON has no word for what is no number, or not finite
        "values": [value if math.isfinite(value) else str(value) for value in result["values"]],
        "exit_code": result["exit_code"],
        "stdout": result["stdout"].decode(errors="surrogateescape"),
        "stderr": result["stderr"].decode(errors="surrogateescape"),
    }
