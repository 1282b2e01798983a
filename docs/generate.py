"""Write `docs/command.md` from the command itself: `python docs/generate.py > docs/command.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any

import click

from registry import Settings
from registry.cli.app import app
from registry.cli.units import exact_size, exact_span

INTRODUCTION = """\
# The command

The cache is `--cache DIR`, else `$REGISTRY_CACHE`, else the user's cache directory; a leading
`~` is the home directory. `--cache` and `--json` may stand before or after the command. `--json`
prints one JSON document: an array for a list, otherwise an object; sizes are bytes, durations
seconds, times ISO 8601 in UTC. An error is `{"error": {"type": ..., "message": ...}}` on stderr, a
warning `{"warning": {"event": ..., "message": ...}}`. Name an artifact by the first digits of its
code hash, or of both hashes: `62631e/0a4f`.
"""
SETTINGS = """\
## Settings

`registry config set NAME VALUE` (in Python, `Registry.configure`) changes a setting for all
processes that use the cache, at once. A `CleanupConfig` or `RetryPolicy` given to a handle
overrides the settings for that handle.

| name | default | meaning |
|---|---|---|
"""
BOUNDS = {
    "cache_limit": "how many bytes the cache may hold; the least recently needed is pruned first",
    "min_stale_time": "artifacts needed within this time are not pruned",
    "max_retries": "how often a failed artifact is tried again by itself",
    "retry_cooldown": "how long after a failure the artifact may be tried again",
    "prepare_timeout": "how long a claim lasts before others may take it over",
    "hard_limit": "how many bytes the cache may hold even if everything in it was needed recently",
    "failed_max_age": "how long a failure is kept after the last try",
    "failed_max_count": "how many failures are kept; the oldest is deleted first",
    "failed_max_bytes": "how many bytes all their errors may have together",
}


def page() -> str:
    """The whole page."""
    with app.make_context("registry", [], resilient_parsing=True) as context:
        verbs = "\n".join(f"## {name}\n\n{text}" for name, text in _verbs(app, context))
        general = _help(app, context)
    return f"{INTRODUCTION}\n{general}\n{verbs}\n{SETTINGS}{''.join(_settings())}"


def _verbs(group: Any, context: click.Context) -> Iterator[tuple[str, str]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        with command.make_context(name, [], parent=context, resilient_parsing=True) as inner:
            if hasattr(command, "list_commands"):
                yield from ((f"{name} {verb}", text) for verb, text in _verbs(command, inner))
            else:
                yield name, _help(command, inner)


def _help(command: Any, context: click.Context) -> str:
    context.terminal_width = 90
    context.max_content_width = 90
    return f"```text\n{command.get_help(context).rstrip()}\n```\n"


def _settings() -> Iterator[str]:
    for field in fields(Settings):
        yield f"| `{field.name}` | {_written(field.default)} | {BOUNDS[field.name]} |\n"


def _written(default: object) -> str:
    match default:
        case timedelta():
            return exact_span(default)
        case int() if default > 1024:
            return exact_size(default)
    return str(default).lower()


if __name__ == "__main__":
    sys.stdout.write(page())
