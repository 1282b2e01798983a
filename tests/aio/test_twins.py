"""The twins say the same things: one surface, written down once more for who awaits it."""

from __future__ import annotations

import inspect
import re

import pytest

from registry import AsyncClaim, AsyncRegistry, Claim, Registry

# An async handle cannot be opened by its constructor.
ONLY_ASYNC = {"open"}
NOT_AWAITED = {"artifact"}
MADE = "bytes | os.PathLike[str]"

TWINS = [(Registry, AsyncRegistry), (Claim, AsyncClaim)]


def surface(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def as_sync(annotation: object) -> str:
    """How the sync twin writes an annotation of the async one."""
    text = str(annotation).replace(f" | Awaitable[{MADE}]", "")
    return re.sub(r"\bAsync(?=Claim|Registry|Iterator|Recipe)", "", text)


PAIRS = [
    pytest.param(sync, aio, name, id=f"{sync.__name__}.{name}")
    for sync, aio in TWINS
    for name in sorted(surface(sync) | {"__init__", "__repr__"})
]


@pytest.mark.parametrize(("sync", "aio"), TWINS)
def test_twins_have_the_same_public_names(sync: type, aio: type) -> None:
    assert surface(aio) - ONLY_ASYNC == surface(sync)


@pytest.mark.parametrize(("sync", "aio", "name"), PAIRS)
def test_twins_take_and_answer_the_same(sync: type, aio: type, name: str) -> None:
    ours, theirs = inspect.getattr_static(sync, name), inspect.getattr_static(aio, name)
    assert type(ours) is type(theirs)
    if isinstance(ours, property):
        ours, theirs = ours.fget, theirs.fget
    if sync is Claim and name == "__init__":
        return  # what a claim is made of is nobody's business
    expected, found = inspect.signature(ours), inspect.signature(theirs)
    assert list(found.parameters) == list(expected.parameters)
    for parameter, other in zip(
        expected.parameters.values(), found.parameters.values(), strict=True
    ):
        assert other.replace(annotation=as_sync(other.annotation)) == parameter.replace(
            annotation=str(parameter.annotation)
        )
    assert as_sync(found.return_annotation) == expected.return_annotation


@pytest.mark.parametrize(("sync", "aio", "name"), PAIRS)
def test_a_verb_is_awaited_and_a_look_is_not(sync: type, aio: type, name: str) -> None:
    verb = inspect.getattr_static(aio, name)
    if name in NOT_AWAITED or name.startswith("__") or isinstance(verb, property):
        return
    if name in ("artifacts", "events", "pinned", "scratch_folder"):
        assert not inspect.iscoroutinefunction(verb)  # it answers at once what is awaited later
        assert "AsyncIterator" in str(inspect.signature(verb).return_annotation)
    else:
        assert inspect.iscoroutinefunction(verb)
    assert f"As `{sync.__name__}.{name}`" in (inspect.getdoc(verb) or "")
