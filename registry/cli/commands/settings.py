"""The settings stored in the cache, shared by all processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

import click

from registry.cli.options import InOrder, choose_from, with_create
from registry.cli.session import Session, in_session
from registry.cli.units import exact_size, exact_span, parse_size, parse_span
from registry.config import Settings
from registry.errors import InvalidSetting

__all__ = ["config"]

_name = click.argument(
    "name",
    metavar="NAME",
    shell_complete=choose_from(lambda: [field.name for field in fields(Settings)]),
)


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError(f"{text[:40]!r} is not a number; write digits, such as 5")
    return int(text)


def _parse_hard_limit(text: str) -> int | None:
    return None if text == "none" else parse_size(text)


# How to read each setting; all others are durations.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "cache_limit": parse_size,
    "hard_limit": _parse_hard_limit,
    "max_retries": _parse_count,
    "failed_max_count": _parse_count,
    "failed_max_bytes": parse_size,
}


@click.group(cls=InOrder, invoke_without_command=True)
@in_session
def config(session: Session) -> None:
    """List, get or set the settings shared by all processes."""
    if session.context.invoked_subcommand is None:
        settings = _settings(session)
        session.write(settings, (f"{name:<16} {_text(name, settings)}" for name in settings))


@config.command()
@in_session
@_name
def get(session: Session, name: str) -> None:
    """Print one setting; `registry config` lists the names."""
    _write(session, name)


@config.command("set")
@in_session
@_name
@click.argument("value", metavar="VALUE")
@with_create
def set_(session: Session, name: str, value: str) -> None:
    """Change one setting, for all processes that use this cache.

    VALUE is like 5GiB, 12h or 5; `none` for no hard_limit.
    """
    _known(name, asdict(Settings()))
    try:
        parsed = _PARSERS.get(name, parse_span)(value)
    except ValueError as error:
        raise InvalidSetting(f"{name}: {error}") from None
    session.registry_or_new.configure(**{name: parsed})
    _write(session, name)


def _write(session: Session, name: str) -> None:
    settings = _settings(session)
    session.write({name: _known(name, settings)}, [_text(name, settings)])


def _settings(session: Session) -> dict[str, Any]:
    """Read the settings; where there is no cache, those that a new one would have."""
    return asdict(session.registry.settings() if session.has_cache else Settings())


def _known(name: str, settings: dict[str, Any]) -> Any:
    if name not in settings:
        raise InvalidSetting(f"there is no setting {name[:40]!r}; use one of {', '.join(settings)}")
    return settings[name]


def _text(name: str, settings: dict[str, Any]) -> str:
    """Write a setting in the form that `config set` reads."""
    match settings[name]:
        case None:
            return "none"
        case timedelta() as span:
            return exact_span(span)
        case size if name.endswith(("limit", "bytes")):
            return exact_size(size)
        case number:
            return str(number)
