"""`config`: the settings that all hosts of a cache share."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.command import Command, Run

from registry import Registry


def test_all_settings_are_listed(command: Command) -> None:
    assert command("config", "--json").document == {
        "cache_limit": 10 * 1024**3,
        "min_stale_time": 86400,
        "max_retries": 5,
        "retry_cooldown": 900,
        "prepare_timeout": 1800,
        "hard_limit": None,
        "failed_max_age": 30 * 86400,
        "failed_max_count": 10_000,
        "failed_max_bytes": 8 * 1024**2,
    }
    lines = command("config").out.splitlines()
    assert lines[0].split() == ["cache_limit", "10GiB"]
    assert lines[1].split() == ["min_stale_time", "1d"]
    assert lines[5].split() == ["hard_limit", "none"]
    assert lines[-1].split() == ["failed_max_bytes", "8MiB"]


@pytest.mark.parametrize(
    ("name", "text", "value", "number"),
    [
        ("cache_limit", "5GiB", 5 * 1024**3, 5 * 1024**3),
        ("min_stale_time", "1d12h", timedelta(hours=36), 129600.0),
        ("max_retries", "3", 3, 3),
        ("hard_limit", "20MiB", 20 * 1024**2, 20 * 1024**2),
    ],
)
def test_a_setting_is_changed_for_all_hosts(
    run: Run, registry: Registry, name: str, text: str, value: object, number: float
) -> None:
    assert run("config", "set", name, text).out == f"{text}\n"
    assert getattr(registry.settings(), name) == value
    assert run("config", "get", name, "--json").document == {name: number}


def test_what_is_listed_can_be_set_again(run: Run, registry: Registry) -> None:
    before = registry.settings()
    for line in run("config").out.splitlines():
        assert run("config", "set", *line.split()).code == 0
    assert registry.settings() == before


def test_a_refused_setting_changes_nothing(run: Run, registry: Registry) -> None:
    before = registry.settings()
    for name, text in (("cache_limit", "lots"), ("prepare_timeout", "99999d"), ("colour", "5")):
        answer = run("config", "set", name, text, "--json")
        assert (answer.code, answer.error["type"]) == (2, "InvalidSetting")
    assert registry.settings() == before
