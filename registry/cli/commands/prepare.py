"""Compile WebAssembly files ahead of their first use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from registry.cli import exits
from registry.cli.options import file_name, with_create
from registry.cli.output import visible
from registry.cli.session import Session, in_session
from registry.cli.units import near_size, near_span
from registry.errors import PreparationFailed, RegistryError

if TYPE_CHECKING:
    from registry import Artifact, ArtifactId, Registry

__all__ = ["Found", "artifact_of", "name_of", "prepare"]

COLUMNS = (("ID", "<25"), ("OUTCOME", "<7"), ("SIZE", ">10"), ("TIME", ">7"), ("FILE", ""))


@dataclass(frozen=True, slots=True)
class Found:
    """An artifact, and whether it was found (hit) or compiled (miss)."""

    artifact: Artifact
    outcome: str
    seconds: float


def artifact_of(registry: Registry, code: bytes, label: str) -> Found:
    """Find the artifact of WebAssembly code, or compile it so that Ctrl-C interrupts.

    Raises `CodeTooLarge` and `PreparationFailed`.
    """
    from registry import State, wasm

    compiled = False

    def compile_() -> bytes:
        nonlocal compiled
        compiled = True
        return wasm.prepare_in_child(code)  # which may make a compiler abort

    name = wasm.artifact_id(code)
    started = perf_counter()  # the time before is the same for a hit and a miss
    known = registry.get(name)  # `get` is no need, so it counts as neither hit nor miss
    if known is None or known.state is not State.PREPARED:
        wasm.check_code(code)
    artifact = registry.get_or_prepare(name, compile_, label=label)
    return Found(artifact, "miss" if compiled else "hit", perf_counter() - started)


def name_of(file: Path) -> str:
    """Return a file's name as text; the name itself may be any bytes."""
    return os.fsencode(file.name).decode(errors="replace")


@dataclass(frozen=True, slots=True)
class _Row:
    """The result for one file; `seconds` is the time until its artifact was ready."""

    file: str
    id: ArtifactId | None
    outcome: str
    size: int | None
    seconds: float
    error: str | None = None


@click.command()
@in_session
@click.argument("files", nargs=-1, required=True, type=file_name, metavar="FILE...")
@with_create
def prepare(session: Session, files: tuple[Path, ...]) -> None:
    """Compile files, each once, and keep the artifacts.

    A FILE is .wasm, .wat or a compressed blob.

    A file whose artifact already exists is a hit. A failure does not stop the others.
    """
    with _progress(session, files) as going:
        rows = [_prepare(session, file) for file in going]
    session.write_list(rows, COLUMNS, _cells)
    if len(rows) > 1:
        session.note(_summary([row.outcome for row in rows]))


def _summary(outcomes: Sequence[str]) -> str:
    """Count the outcomes: "4 compiled, 1 hit"."""
    words = {"miss": "compiled", "hit": "hit", "failed": "failed"}
    return ", ".join(f"{outcomes.count(it)} {words[it]}" for it in words if it in outcomes)


def _prepare(session: Session, file: Path) -> _Row:
    started = perf_counter()
    try:
        found = artifact_of(session.registry_or_new, file.read_bytes(), name_of(file))
    except (RegistryError, OSError) as error:
        if exits.exit_code(error) == exits.UNUSABLE:
            raise  # the next file would fail too
        session.complain(error, about=str(file))
        failed = error.artifact if isinstance(error, PreparationFailed) else None
        name, seconds = failed.id if failed else None, perf_counter() - started
        return _Row(str(file), name, "failed", None, seconds, exits.sentence(error))
    artifact = found.artifact
    return _Row(str(file), artifact.id, found.outcome, artifact.size, found.seconds)


def _cells(row: _Row) -> tuple[str, ...]:
    return (
        row.id.short if row.id else "-",
        row.outcome,
        near_size(row.size) if row.size is not None else "-",
        near_span(row.seconds),
        row.file,
    )


@contextmanager
def _progress(session: Session, files: Sequence[Path]) -> Iterator[Iterable[Path]]:
    """Iterate over the files; on a terminal, with a progress bar."""
    if session.quiet or not sys.stderr.isatty():
        yield files
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=len(files))

        def going() -> Iterator[Path]:
            for file in files:
                progress.update(task, description=visible(file.name))
                yield file
                progress.advance(task)

        yield going()
