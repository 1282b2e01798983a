"""The settings of a cache and its retries: defaults, each with its reason, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from registry.artifact import to_micros
from registry.errors import InvalidSetting

__all__ = [
    "CACHE_LIMIT",
    "DEATHS_COUNT_FOR",
    "FAILED_MAX_AGE",
    "FAILED_MAX_BYTES",
    "FAILED_MAX_COUNT",
    "LARGEST",
    "MAX_RETRIES",
    "MIN_STALE_TIME",
    "PREPARE_TIMEOUT",
    "RETRY_COOLDOWN",
    "CleanupConfig",
    "RetryPolicy",
    "Settings",
    "as_amount",
    "as_span",
    "as_stored",
    "from_stored",
    "require_overrides",
]

# 10 GiB and 24 h: the original host's values. A day covers all that runs daily; 10 GiB hold about a
# thousand compiled validation functions of 2 to 30 MB.
CACHE_LIMIT = 10 * 1024**3
MIN_STALE_TIME = timedelta(hours=24)
# The original's rule: the first failure and five retries, a quarter of an hour apart.
MAX_RETRIES = 5
RETRY_COOLDOWN = timedelta(minutes=15)
# Code that kills its host does so again within hours. A service that is stopped during a long
# preparation, once at each deployment, is not the code's fault.
DEATHS_COUNT_FOR = timedelta(days=1)
# Longer than the longest compilation known to us (the original gives up after 4 x 360 s).
PREPARE_TIMEOUT = timedelta(minutes=30)
# A failure is kept so that it is not repeated. After a month its code is gone, or may be tried once
# more. Ten thousand take about 5 MB without their messages, most of which have a few hundred
# characters: 8 MiB hold ten thousand of 800, but only 128 of the longest that are stored (64 KiB).
FAILED_MAX_AGE = timedelta(days=30)
FAILED_MAX_COUNT = 10_000
FAILED_MAX_BYTES = 8 * 1024**2
# So that a time plus any duration is before the year 9999, the last that datetime can represent.
LONGEST = timedelta(days=36500)
LARGEST = 2**63 - 1  # SQLite's INTEGER


@dataclass(frozen=True, slots=True)
class CleanupConfig:
    """Limit the cache: `cache_limit` in bytes; nothing needed within `min_stale_time` is pruned.

    A handle that is given one uses it instead of the stored settings; other handles do not.
    """

    cache_limit: int = CACHE_LIMIT
    min_stale_time: timedelta = MIN_STALE_TIME

    def __post_init__(self) -> None:
        as_amount("cache_limit", self.cache_limit)
        as_span("min_stale_time", self.min_stale_time)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limit the retries of a failure: at most `max_retries`, each `cooldown` after the last one.

    A deterministic failure is never retried. A handle that is given a policy uses it instead of the
    stored settings; other handles do not.
    """

    max_retries: int = MAX_RETRIES
    cooldown: timedelta = RETRY_COOLDOWN

    def __post_init__(self) -> None:
        as_amount("max_retries", self.max_retries)
        as_span("cooldown", self.cooldown)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings stored with the cache and shared by all its hosts.

    `cache_limit` is bytes. `hard_limit` (bytes, None: no such limit) limits the cache even if
    everything was needed recently. `prepare_timeout` is how long a claim is held by default before
    others may take it. Failures older than `failed_max_age` are forgotten, and the oldest ones
    beyond `failed_max_count`, or beyond `failed_max_bytes` of messages.
    """

    cache_limit: int = CACHE_LIMIT
    min_stale_time: timedelta = MIN_STALE_TIME
    max_retries: int = MAX_RETRIES
    retry_cooldown: timedelta = RETRY_COOLDOWN
    prepare_timeout: timedelta = PREPARE_TIMEOUT
    hard_limit: int | None = None
    failed_max_age: timedelta = FAILED_MAX_AGE
    failed_max_count: int = FAILED_MAX_COUNT
    failed_max_bytes: int = FAILED_MAX_BYTES


SPANS = frozenset({"min_stale_time", "retry_cooldown", "prepare_timeout", "failed_max_age"})
_NAMES = tuple(field.name for field in fields(Settings))


def require_overrides(cleanup: object, retry: object) -> None:
    """Check the settings of one handle, which override the stored ones."""
    for name, value, kind in (
        ("cleanup", cleanup, CleanupConfig),
        ("retry", retry, RetryPolicy),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} is a {kind.__name__}, not {type(value).__name__}")


def as_span(name: str, value: object) -> timedelta:
    """Check a duration; a bare number raises TypeError, one out of range `InvalidSetting`."""
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} is a datetime.timedelta, not {type(value).__name__}")
    if not timedelta(0) <= value <= LONGEST:
        raise InvalidSetting(f"{name} is {value}; it must be between 0 and {LONGEST.days} days")
    return value


def as_amount(name: str, value: object) -> int:
    """Check a number of bytes or of times; a negative one raises `InvalidSetting`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if not 0 <= value <= LARGEST:
        raise InvalidSetting(f"{name} is {value}; it must be between 0 and {LARGEST}")
    return value


def as_stored(changes: Mapping[str, Any]) -> dict[str, int | None]:
    """Check changes of settings, and convert them to the integers that are stored."""
    return {name: _stored(name, value) for name, value in changes.items()}


def from_stored(stored: Mapping[str, int | None]) -> Settings:
    """Convert stored settings; missing ones have their default, unknown ones are ignored."""
    known = {name: stored[name] for name in _NAMES if name in stored}
    return Settings(
        **{
            name: timedelta(microseconds=value or 0) if name in SPANS else value
            for name, value in known.items()
        }  # type: ignore[arg-type]
    )


def _stored(name: str, value: object) -> int | None:
    if name not in _NAMES:
        raise InvalidSetting(
            f"there is no setting {name[:80]!r}; the settings are {', '.join(_NAMES)}"
        )
    if name in SPANS:
        return to_micros(as_span(name, value))
    if name == "hard_limit" and value is None:
        return None
    return as_amount(name, value)
