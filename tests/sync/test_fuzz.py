"""Anything at all is taken, or refused in our words: ids, settings, arguments of the command.

The library raises a `RegistryError`, or a TypeError for what has a wrong type. The command ends
with a sentence and an exit code of 0 to 3, and never with a traceback.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from registry import ArtifactId, Claim, Registry, RegistryError
from registry.cli import entry

FEW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(max_size=80) | st.text("0123456789abcdef/\0\n.-", max_size=140)
HASH = st.text("0123456789abcdef", min_size=64, max_size=64)
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=20)
ANYTHING = st.recursive(
    SIMPLE | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SIMPLE, inner, max_size=3),
    max_leaves=8,
)
SETTINGS = (
    *("cache_limit", "hard_limit", "min_stale_time", "max_retries"),
    *("retry_cooldown", "prepare_timeout"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all examples: what one of them leaves, the others must bear."""
    made = tmp_path_factory.mktemp("fuzz") / "cache"
    Registry(made).close()
    return made


@pytest.fixture(scope="module")
def registry(cache: Path) -> Iterator[Registry]:
    with Registry(cache) as opened:
        yield opened
        opened.configure(cache_limit=10**9, min_stale_time=timedelta(days=1), max_retries=5)
        opened.check(repair=True)
        assert opened.check(checksums=True).ok


@FEW
@given(code=ANYTHING, prep=ANYTHING)
@example("a" * 64, "b" * 64)
@example("a" * 64 + "\n", "b" * 64)
@example("Ａ" * 64, "b" * 64)
def test_ids(code: Any, prep: Any) -> None:
    for make in (lambda: ArtifactId(code, prep), lambda: ArtifactId.parse(code)):
        with contextlib.suppress(RegistryError, TypeError):
            made = make()
            assert ArtifactId.parse(str(made)) == made
    with contextlib.suppress(RegistryError, TypeError):
        assert ArtifactId.of(code, prep) == ArtifactId.of(code, prep)


@FEW
@given(changes=st.dictionaries(st.sampled_from(SETTINGS) | TEXT, ANYTHING, max_size=3))
def test_settings(registry: Registry, changes: dict[str, Any]) -> None:
    before = registry.settings()
    try:
        after = registry.configure(**changes)
    except (RegistryError, TypeError):
        assert registry.settings() == before
    else:
        assert all(getattr(after, name) == value for name, value in changes.items())


@FEW
@given(code=HASH, data=ANYTHING, error=ANYTHING, label=ANYTHING, span=ANYTHING, find=ANYTHING)
def test_verbs(
    registry: Registry, code: str, data: Any, error: Any, label: Any, span: Any, find: Any
) -> None:
    named = ArtifactId(code, code)
    refusals = (RegistryError, TypeError)
    for act in (
        lambda: registry.claim(named, timeout=span, label=label),
        lambda: registry.get_or_prepare(named, lambda: data, timeout=span, label=label),
        lambda: registry.find(find),
        lambda: registry.prune(cache_limit=find, min_stale_time=span, dry_run=True),
        lambda: list(registry.artifacts(state=find)),
        lambda: registry.get(find),
        lambda: registry.need(find),
    ):
        with contextlib.suppress(*refusals):
            answer = act()
            if isinstance(answer, Claim):
                with contextlib.suppress(*refusals):
                    answer.extend(span)
                with contextlib.suppress(*refusals):
                    answer.fail(error, kind=find)
                with contextlib.suppress(*refusals):
                    answer.release()  # else what follows waits for it
    with contextlib.suppress(*refusals):
        registry.remove(named)


VERBS = (
    *("run", "prepare", "ls", "show", "why", "stats", "prune", "rm", "retry", "check", "hosts"),
    *("doctor", "metrics", "config", "config get", "config set", "db path", "db current"),
    *("db history", "db upgrade", "db downgrade", "db backup", "db recover"),
)
OPTIONS = (
    *("--json", "--cache", "--limit", "--min-stale", "--repair", "--state", "--help", "--invoke"),
    *("--dry-run", "--version", "--checksums", "--", "-", "--timeout", "--label"),
)
WORDS = st.sampled_from(OPTIONS) | TEXT | st.sampled_from(SETTINGS) | HASH | st.integers().map(str)


@FEW
@given(verb=st.sampled_from(VERBS) | TEXT, words=st.lists(WORDS, max_size=4))
@example("ls", ["--cache", ""])
@example("db recover", ["\0"])
@example("db backup", ["\0"])
@example("run", ["\0"])
@example("ls", ["--cache", "a\0b"])
def test_arguments(cache: Path, verb: str, words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(cache.parent)
        patched.setenv("REGISTRY_CACHE", str(cache))
        patched.setattr("sys.stdin", StringIO())
        out, err = StringIO(), StringIO()
        patched.setattr("sys.stdout", out)
        patched.setattr("sys.stderr", err)
        code = entry.run([*verb.split(" "), *words])
    assert code in (0, 1, 2, 3), shlex.join(words)
    assert code == 0 or err.getvalue(), "it failed without a word"
    assert "Traceback" not in err.getvalue() + out.getvalue()
    assert os.path.isdir(cache)
