"""`registry.testing`: the fixtures, as the tests of another project use them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[1]

USERS_TESTS = """
import subprocess, sys
from datetime import timedelta
from registry import CleanupConfig, PreparationFailed, Registry, prepared
import pytest

@prepared(version=1)
def build(n: int) -> bytes:
    return bytes(n)

@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_an_empty_cache(registry_handle, time):
    assert not list(registry_handle.artifacts())
    assert build(3) == bytes(3)
    (artifact,) = registry_handle.artifacts()
    assert artifact.id == build.id(3)

def test_child_processes_use_it(registry_cache, registry_handle):
    build(3)
    ls = [sys.executable, "-m", "registry", "ls"]
    listed = subprocess.run(ls, capture_output=True, text=True)
    assert build.id(3).short in listed.stdout

def test_time_passes_when_told(registry_clock, registry_handle):
    artifact = build.artifact(5)
    assert artifact.last_time_needed == registry_clock.now
    registry_clock.advance(timedelta(hours=23))
    assert not registry_handle.prune(cache_limit=0)
    registry_clock.advance(timedelta(hours=2))
    assert [it.id for it in registry_handle.prune(cache_limit=0)] == [build.id(5)]

@pytest.mark.parametrize("span", [timedelta(minutes=1), timedelta(days=400)])
def test_a_hit_after_time_has_passed_is_a_later_use(registry_clock, registry_handle, span):
    artifact = build.artifact(5)
    for _ in range(3):
        registry_handle.need(artifact.id)
        registry_clock.advance(span)
        found = registry_handle.need(artifact.id)
        assert found.last_time_needed == registry_clock.now
        assert registry_handle.get(artifact.id).last_time_needed == registry_clock.now
        build(5)
    registry_clock.advance(timedelta(hours=23))
    assert not registry_handle.prune(cache_limit=0)

def test_a_clock_that_stands_is_no_later_use(registry_clock, registry_handle):
    artifact = build.artifact(5)
    registry_handle.need(artifact.id)
    assert registry_handle.need(artifact.id).last_time_needed == registry_clock.now
    assert registry_handle.counters.hits == 2

def test_a_failure_may_be_tried_again_after_a_quarter_of_an_hour(registry_clock, registry_handle):
    @registry_handle.artifact(version=1)
    def broken():
        raise OSError("no compiler")
    with pytest.raises(PreparationFailed) as first:
        broken()
    assert first.value.artifact.retry_at == registry_clock.now + timedelta(minutes=15)
    registry_clock.advance(timedelta(minutes=15))
    with pytest.raises(PreparationFailed) as second:
        broken()
    assert second.value.artifact.num_failures == 2
"""


def test_the_fixtures_serve_the_tests_of_others(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USERS_TESTS)
    done = pytester.runpytest_subprocess("-p", "registry.testing", "-W", "error")
    done.assert_outcomes(passed=8)


def test_the_clock_is_let_go_after_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from registry.world import clock
        def test_held(registry_clock):
            assert clock.now() == clock.now() == registry_clock.micros()
        def test_goes():
            assert clock.now.__name__ == "now"
    """)
    pytester.runpytest_subprocess("-p", "registry.testing").assert_outcomes(passed=2)


def test_a_conftest_asks_for_them(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["registry.testing"]')
    pytester.makepyfile(USERS_TESTS)
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=8)


def test_nobody_who_did_not_ask_is_given_a_plugin() -> None:
    """A project with a `registry.py` of its own would import that one, and no test would run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "pytest11" not in project["entry-points"]


def test_the_rest_of_the_package_does_not_import_pytest() -> None:
    every = "import sys, registry; [getattr(registry, n) for n in registry.__all__]"
    told = subprocess.run(
        [sys.executable, "-c", f"{every}; import registry.cli.app; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "pytest" not in told.stdout.split()
