"""Compile WebAssembly files ahead of their first use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self

import click

from registry.artifact import ArtifactId
from registry.cli import exits
from registry.cli.file_processes import Ended, prepare_at_once
from registry.cli.options import file_name, with_create
from registry.cli.output import visible
from registry.cli.session import Session, in_session
from registry.cli.units import near_size, near_span
from registry.errors import PreparationFailed, PrepareError, RegistryError

if TYPE_CHECKING:
    from rich.progress import Progress

    from registry import Artifact, Registry

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
    artifact = registry.get_or_prepare(name, compile_, label=label, kind=wasm.KIND)
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
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Compile N files at once, each in a process of its own [default: 1].",
)
@with_create
def prepare(session: Session, files: tuple[Path, ...], jobs: int) -> None:
    """Compile files, each once, and keep the artifacts.

    A FILE is .wasm, .wat or a compressed blob.

    A file whose artifact already exists is a hit. A failure does not stop the others. Ctrl-C stops
    those that are being compiled; what was compiled before is kept.
    """
    progress, rows = _Progress(session, files), dict[int, _Row]()
    try:
        with progress:
            each = _each(session, files, progress) if jobs == 1 else None
            for place, row in each or _at_once(session, files, jobs, progress):
                rows[place] = row
                progress.end()
    except KeyboardInterrupt:
        if len(files) > 1:
            session.note(_kept([row.outcome for row in rows.values()], progress.begun, len(files)))
        raise
    session.write_list([rows[place] for place in sorted(rows)], COLUMNS, _cells)
    if len(rows) > 1:
        session.note(_summary([row.outcome for row in rows.values()]))


def _kept(outcomes: Sequence[str], begun: int, count: int) -> str:
    """Say what an interruption leaves: "kept: 3 compiled; 1 stopped; 2 not begun"."""
    words = [f"kept: {_summary([it for it in outcomes if it != 'failed']) or 'nothing'}"]
    counts = {"failed": outcomes.count("failed"), "stopped": begun - len(outcomes)}
    counts["not begun"] = count - begun
    return "; ".join([*words, *(f"{number} {name}" for name, number in counts.items() if number)])


def _summary(outcomes: Sequence[str]) -> str:
    """Count the outcomes: "4 compiled, 1 hit"."""
    words = {"miss": "compiled", "hit": "hit", "failed": "failed"}
    return ", ".join(f"{outcomes.count(it)} {words[it]}" for it in words if it in outcomes)


def _each(
    session: Session, files: Sequence[Path], progress: _Progress
) -> Iterator[tuple[int, _Row]]:
    for place, file in enumerate(files):
        progress.begin(file)
        yield place, _prepare(session, file)


def _at_once(
    session: Session, files: Sequence[Path], jobs: int, progress: _Progress
) -> Iterator[tuple[int, _Row]]:
    session.registry_or_new.stats()  # a cache that cannot be used is told of once, and here
    with closing(prepare_at_once(session.cache_dir, files, jobs, progress.begin)) as all_ended:
        for ended in all_ended:
            session.repeat(ended.said)
            if ended.code == exits.UNUSABLE:
                raise click.exceptions.Exit(exits.UNUSABLE)  # the next file would fail too
            yield ended.place, _row(session, files[ended.place], ended)


def _row(session: Session, file: Path, ended: Ended) -> _Row:
    if ended.row is None:
        error = PrepareError(f"the process that compiled it ended with exit code {ended.code}")
        session.complain(error, about=str(file))
        return _Row(str(file), None, "failed", None, 0.0, str(error))
    given = dict(ended.row)
    code, prep = given.pop("code_hash"), given.pop("prep_hash")
    return _Row(id=ArtifactId(code, prep) if code else None, **given)


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


class _Progress:
    """Tell which files are being prepared: by a bar on a terminal, else a line for each of several.

    The results come later, and are written to stdout.
    """

    def __init__(self, session: Session, files: Sequence[Path]) -> None:
        self.begun = 0
        self._session, self._count = session, len(files)
        self._bar: Progress | None = None
        self._open = ExitStack()

    def begin(self, file: Path) -> None:
        """Tell that a file is being prepared."""
        self.begun += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=visible(file.name))
        elif self._count > 1:
            self._session.note(f"preparing {file} ({self.begun} of {self._count})")

    def end(self) -> None:
        """Tell that one more file is done."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def __enter__(self) -> Self:
        if not self._session.quiet and sys.stderr.isatty():
            self._bar = self._open.enter_context(_bar())
            self._bar.add_task("", total=self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, redirect_stdout=False)
