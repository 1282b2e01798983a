"""The settings, stored with the cache: what all its hosts obey."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.tables import connected

from registry import CleanupConfig, InvalidSetting, Registry, RetryPolicy, Settings

DEFAULTS = {
    "cache_limit": 10 * 1024**3,
    "min_stale_time": timedelta(hours=24),
    "max_retries": 5,
    "retry_cooldown": timedelta(minutes=15),
    "prepare_timeout": timedelta(minutes=30),
    "hard_limit": None,
}
CHANGED = {
    "cache_limit": 0,
    "min_stale_time": timedelta(0),
    "max_retries": 0,
    "retry_cooldown": timedelta(microseconds=1),
    "prepare_timeout": timedelta(days=36500),
    "hard_limit": 2**63 - 1,
}


def stored(cache: Path) -> dict[str, int | None]:
    with connected(cache) as connection:
        return dict(map(tuple, connection.execute("SELECT name, value FROM setting")))


def test_the_defaults_are_the_originals(registry: Registry, cache: Path) -> None:
    assert registry.settings() == Settings(**DEFAULTS) == Settings()
    assert stored(cache) == {}
    assert CleanupConfig() == CleanupConfig(10 * 1024**3, timedelta(hours=24))
    assert RetryPolicy() == RetryPolicy(5, timedelta(minutes=15))


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_setting_can_be_changed_alone(name: str, registry: Registry, cache: Path) -> None:
    wanted = Settings(**(DEFAULTS | {name: CHANGED[name]}))
    assert registry.configure(**{name: CHANGED[name]}) == wanted
    assert list(stored(cache)) == [name]


def test_changes_are_shared_and_survive_a_restart(registry: Registry, other: Registry) -> None:
    registry.configure(**CHANGED)
    assert other.settings() == Settings(**CHANGED)
    cache = registry.cache_dir
    registry.close()
    other.close()
    with Registry(cache) as opened:
        assert opened.settings() == Settings(**CHANGED)
        assert opened.configure(**DEFAULTS) == Settings()


def test_times_are_stored_as_microseconds(registry: Registry, cache: Path) -> None:
    registry.configure(min_stale_time=timedelta(hours=1), hard_limit=None, cache_limit=7)
    assert stored(cache) == {"min_stale_time": 3_600_000_000, "hard_limit": None, "cache_limit": 7}


def test_no_change_is_no_change(registry: Registry, cache: Path) -> None:
    assert registry.configure() == Settings()
    assert stored(cache) == {}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"cache_limti": 5}, InvalidSetting),
        ({"cache_limit": -1}, InvalidSetting),
        ({"cache_limit": 2**63}, InvalidSetting),
        ({"cache_limit": None}, TypeError),
        ({"cache_limit": 1.0}, TypeError),
        ({"cache_limit": True}, TypeError),
        ({"cache_limit": "5GiB"}, TypeError),
        ({"cache_limit": timedelta(1)}, TypeError),
        ({"hard_limit": -1}, InvalidSetting),
        ({"max_retries": -1}, InvalidSetting),
        ({"max_retries": 1.5}, TypeError),
        ({"min_stale_time": 60}, TypeError),
        ({"min_stale_time": None}, TypeError),
        ({"min_stale_time": "12h"}, TypeError),
        ({"min_stale_time": timedelta(microseconds=-1)}, InvalidSetting),
        ({"retry_cooldown": timedelta.max}, InvalidSetting),
        ({"prepare_timeout": 1800}, TypeError),
    ],
)
def test_a_wrong_change_is_refused_together_with_the_right_ones(
    wrong: dict[str, Any], error: type[Exception], registry: Registry, cache: Path
) -> None:
    registry.configure(max_retries=3)
    with pytest.raises(error, match=next(iter(wrong))):
        registry.configure(**({"prepare_timeout": timedelta(hours=1)} | wrong))
    assert stored(cache) == {"max_retries": 3}


@pytest.mark.parametrize("wrong", [{"cleanup": RetryPolicy()}, {"retry": 5}, {"cleanup": {}}])
def test_a_handle_takes_its_own_limits_in_their_own_form(
    wrong: dict[str, Any], cache: Path
) -> None:
    with pytest.raises(TypeError):
        Registry(cache, **wrong)


def test_a_setting_that_a_newer_version_stored_is_left_alone(
    registry: Registry, cache: Path
) -> None:
    with connected(cache) as connection:
        connection.execute("INSERT INTO setting VALUES ('from_the_future', 7)")
    assert registry.settings() == Settings()
    registry.configure(max_retries=3)
    assert stored(cache) == {"from_the_future": 7, "max_retries": 3}


def test_the_table_takes_only_integers(registry: Registry, cache: Path) -> None:
    with connected(cache) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO setting VALUES ('cache_limit', '5GiB')")
