"""Misuse: a sentence or a JSON document on stderr, nothing on stdout, exit code 2, no traceback."""

from __future__ import annotations

import pytest
from support.command import Run

MISUSES = [
    "",
    "nope",
    "lss",
    "--nope",
    "--cache",
    "--cache=",
    "ls --cache=",
    "ls extra",
    "ls --state",
    "ls --state x",
    "ls --state PREPARED",
    "ls --json=yes",
    "show",
    "show xyz",
    "show ABC",
    "show ../x",
    "show /",
    f"show {'a' * 65}",
    "show a b",
    "rm",
    "retry",
    "stats x",
    "prune --limit 5G",
    "prune --limit -1",
    "prune --limit=",
    f"prune --limit {'9' * 5000}",
    f"prune --limit {2**63}",
    "prune --min-stale 12",
    "prune --min-stale 1.5h",
    "prune --min-stale 99999d",
    f"prune --min-stale {'9' * 5000}d",
    "check --repair=maybe",
    "config x",
    "config get",
    "config get nope",
    "config get ''",
    "config set",
    "config set cache_limit",
    "config set cache_limit 5G",
    "config set cache_limit none",
    "config set min_stale_time 5",
    "config set max_retries 1.5",
    "config set max_retries ٣",
    f"config set max_retries {'9' * 5000}",
    "config set hard_limit nothing",
    "config set nope 5",
    "db",
    "db nope",
    "db path x",
    "prepare",
    "run",
    "run x.wat --invoke",
    "run --invoke",
]


@pytest.mark.parametrize("line", [line for line in MISUSES if line])  # alone it shows its help
def test_misuse_is_answered_with_a_sentence(line: str, run: Run) -> None:
    answer = run(*line.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert len(answer.err) < 600


@pytest.mark.parametrize("line", [line for line in MISUSES if not line.startswith("run x.wat")])
def test_misuse_is_answered_with_a_document_where_one_is_asked_for(line: str, run: Run) -> None:
    answer = run("--json", *line.split())
    assert (answer.code, answer.out) == (2, "")
    assert set(answer.error) == {"type", "message"}
