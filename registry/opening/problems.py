"""What is wrong with a cache directory, said all at once, with the commands that repair it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from registry.errors import CacheDirectoryRefused
from registry.record import Record

__all__ = ["Problem", "advice", "refusal"]


class Problem(Record):
    """One thing that is wrong with one path: what, what to do, and the command that does it.

    The command ends with the path, or with `target`; those that are else the same are joined.
    """

    path: Path
    what: str
    instead: str = ""
    command: tuple[str, ...] = ()
    target: Path | None = None

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def refusal(cache: Path, problems: Sequence[Problem]) -> CacheDirectoryRefused:
    """Word the refusal of a directory: every problem, then every repair."""
    found = "; ".join(map(str, problems))
    if len(problems) > 1:
        found = f"{cache} cannot be used as a cache directory: {found}"
    return CacheDirectoryRefused(f"{found}; {advice(problems)}")


def advice(problems: Iterable[Problem]) -> str:
    """What to do about problems; what is in backticks can be pasted into a shell."""
    problems = list(problems)
    words = list(dict.fromkeys(problem.instead for problem in problems if problem.instead))
    if commands := _commands(problems):
        words.append(f"`{' && '.join(commands)}`")
    return ", or ".join(words)


def _commands(problems: Iterable[Problem]) -> list[str]:
    import shlex

    paths: dict[tuple[str, ...], list[str]] = {}
    for problem in problems:
        if problem.command:
            path = os.fspath(problem.target or problem.path)
            paths.setdefault(problem.command, []).append(path)
    # The owner comes first: nobody can change the mode of another user's file.
    in_order = sorted(paths.items(), key=lambda item: "chown" not in item[0])
    return [shlex.join((*command, *them)) for command, them in in_order]
