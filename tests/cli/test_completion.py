"""Completion, through the real shells where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.artifacts import failed, prepared
from support.command import Command, Run

from registry import Registry


def as_the_shell_sees_it(command: Command) -> dict[str, str]:
    """An environment in which `registry` is a command."""
    program = command.home / "bin" / "registry"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m registry "$@"\n')
    program.chmod(0o755)
    return command.environment(PATH=f"{program.parent}:{os.environ['PATH']}")


def completed(command: Command, typed: str, script: Path) -> list[str]:
    """What bash offers for what was typed."""
    ask = f"""
source "{script}"
COMP_WORDS=({typed}) COMP_CWORD=$(({len(typed.split(" "))} - 1))
_registry_completion registry
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", ask],
        env=as_the_shell_sees_it(command),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("registry pru", {"prune"}),
        ("registry prune --dry", {"--dry-run"}),
        ("registry db down", {"downgrade"}),
        ("registry ls --state pre", {"prepared", "preparing"}),
        ("registry config set ca", {"cache_limit"}),
    ],
)
def test_bash_completes(command: Command, typed: str, offered: set[str]) -> None:
    script = command.home / "completion.bash"
    script.write_text(command("--show-completion", "bash").out)
    assert set(completed(command, typed, script)) == offered
    assert not command.cache.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_read_its_script(command: Command, shell: str) -> None:
    answer = command("--show-completion", shell)
    assert (answer.code, answer.err) == (0, "")
    assert "_REGISTRY_COMPLETE" in answer.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=answer.out, text=True, check=True, timeout=60)


def test_it_is_installed_where_the_shell_looks(command: Command) -> None:
    answer = command("--install-completion", "bash")
    assert answer.code == 0, answer.err
    (script,) = (command.home / ".bash_completions").iterdir()
    assert script.name in (command.home / ".bashrc").read_text()
    assert "registry" in answer.out


def test_an_unknown_shell_is_a_misuse(run: Run) -> None:
    assert run("--show-completion", "cmd").code == 2


@pytest.mark.parametrize("verb", ["show", "rm", "why", "retry"])
def test_ids_are_completed(command: Command, run: Run, registry: Registry, verb: str) -> None:
    one, two = prepared(registry, "one").id, failed(registry, "two").id
    script = command.home / "completion.bash"
    script.write_text(run("--show-completion", "bash").out)
    assert completed(command, f"registry {verb} {one.code_hash[:6]}", script) == [one.short]
    whole = f"{two.code_hash}/{two.prep_hash[:2]}"
    assert offered(command, verb, whole) == [f"{two.code_hash}/{two.prep_hash}"]
    assert set(offered(command, verb, "")) == {one.short, two.short}
    assert offered(command, verb, "no-id") == []


def test_completing_an_id_creates_no_cache_and_disturbs_nobody(command: Command) -> None:
    assert offered(command, "show", "ab") == []
    assert not command.cache.exists()
    command.cache.write_text("no directory")
    assert offered(command, "show", "ab") == []


def test_ids_are_those_of_the_cache_that_is_named(command: Command, registry: Registry) -> None:
    one = prepared(registry, "one").id
    elsewhere = {"REGISTRY_CACHE": str(command.home / "other")}
    assert offered(command, f"--cache {command.cache} show", "", **elsewhere) == [one.short]
    assert offered(command, f"show --cache {command.cache}", "", **elsewhere) == [one.short]
    assert offered(command, "show", "", **elsewhere) == []


def offered(command: Command, verb: str, typed: str, **environment: str) -> list[str]:
    """What the command offers a shell for a word of an id."""
    words = f"registry {verb} {typed}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    answer = command(**asked, **environment, _REGISTRY_COMPLETE="bash_complete")
    assert (answer.code, answer.err) == (0, "")
    return [line.partition(",")[2] for line in answer.out.split()]
