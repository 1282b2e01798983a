"""Ending a claim without a file: fail it, release it, or leave it to the context manager."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import row, rows, snapshot

from registry import (
    ArtifactId,
    Claim,
    ClaimLost,
    HandleClosed,
    InvalidData,
    PrepareError,
    Registry,
    State,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Interruption(BaseException):
    """What Ctrl-C and a cancellation have in common: they are no Exception."""


# --- failing ------------------------------------------------------------------------------------


def test_failing_records_what_went_wrong(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    artifact = claimed(registry, id).fail("no memory", kind="oom")
    assert artifact == registry.get(id)
    assert (artifact.state, artifact.error, artifact.error_kind) == ("failed", "no memory", "oom")
    assert artifact.num_failures == 1
    assert artifact.last_time_failed == NOON
    assert artifact.retry_at == NOON + timedelta(minutes=15)
    assert artifact.path is artifact.size is artifact.holder is None
    stored = row(cache, id)
    assert stored is not None
    assert [stored[name] for name in ("path", "token", "host_id", "deadline")] == [None] * 4


@pytest.mark.parametrize(
    ("error", "message", "kind", "again"),
    [
        (ValueError("odd"), "odd", "ValueError", True),
        (ValueError(), "ValueError", "ValueError", True),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt", True),
        (PrepareError("bad code"), "bad code", "preparation", False),
        (PrepareError("bad code", kind="compile"), "bad code", "compile", False),
        (PrepareError("busy", kind="io", deterministic=False), "busy", "io", True),
        (ValueError("a\0b \ud800"), "a\ufffdb ?", "ValueError", True),
    ],
)
def test_an_exception_fails_a_claim_under_its_own_name(
    error: BaseException,
    message: str,
    kind: str,
    again: bool,
    registry: Registry,
    id: ArtifactId,
) -> None:
    artifact = claimed(registry, id).fail(error)
    assert (artifact.error, artifact.error_kind) == (message, kind)
    assert (artifact.retry_at is not None) is again


def test_an_exception_that_cannot_say_what_it_is_still_fails_the_claim(
    registry: Registry, id: ArtifactId
) -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert claimed(registry, id).fail(Speechless()).error == "Speechless"


class Unfinished(PrepareError):
    """An error of somebody who never calls the base class."""

    def __init__(self, code: int) -> None:
        self.code = code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PrepareError("no", kind=None), "PrepareError"),  # type: ignore[arg-type]
        (PrepareError("no", kind=""), "PrepareError"),
        (PrepareError("no", kind=7), "7"),  # type: ignore[arg-type]
        (Unfinished(7), "preparation"),
        (type("Long" * 1000, (Exception,), {})("no"), ("Long" * 1000)[:256]),
    ],
    ids=["None", "empty", "number", "unfinished", "long"],
)
def test_an_error_with_a_strange_kind_still_fails_the_claim(
    error: Exception, kind: str, registry: Registry, id: ArtifactId
) -> None:
    artifact = claimed(registry, id).fail(error)
    assert artifact.error_kind == kind
    assert (artifact.retry_at is None) is isinstance(error, PrepareError)


def test_a_long_error_is_cut_at_64_kibibytes(registry: Registry, id: ArtifactId) -> None:
    error = claimed(registry, id).fail("x" + "ü" * 40_000).error
    assert error is not None
    assert len(error.encode()) == 64 * 1024 - 1


@pytest.mark.parametrize(
    ("error", "kind", "refusal"),
    [("a\0b", None, InvalidData), ("wrong", "a\0b", InvalidData), (5, None, TypeError)],
)
def test_after_a_refused_failure_the_claim_is_still_yours(
    error: object,
    kind: str | None,
    refusal: type[Exception],
    registry: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    claim = claimed(registry, id)
    before = snapshot(cache)
    with pytest.raises(refusal):
        claim.fail(error, kind=kind)  # type: ignore[arg-type]
    assert snapshot(cache) == before
    assert claim.publish(b"compiled").state is State.PREPARED


def test_the_very_same_failure_at_the_very_same_time_is_refused_all_the_same(
    clock: FrozenDateTimeFactory, registry: Registry, other: Registry, id: ArtifactId
) -> None:
    late = claimed(registry, id)
    late.extend(timedelta(0))
    again = claimed(other, id)
    failure = again.fail("no memory")
    for claim in (again, late):
        with pytest.raises(ClaimLost):
            claim.fail("no memory")
    assert registry.get(id) == failure


# --- releasing ----------------------------------------------------------------------------------


def test_releasing_a_first_claim_leaves_nothing(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    before = snapshot(cache)
    claimed(registry, id).release()
    assert snapshot(cache) == before


@pytest.mark.parametrize("by_hand", [True, False], ids=["retried by hand", "after the cooldown"])
def test_releasing_a_later_claim_restores_the_failure_exactly(
    by_hand: bool,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    cache: Path,
    id: ArtifactId,
) -> None:
    failed(registry, id)
    clock.tick(timedelta(minutes=20))
    if by_hand:
        registry.retry(id)
    before = snapshot(cache)
    clock.tick(timedelta(seconds=1))
    claimed(registry, id).release()
    assert snapshot(cache) == before


@pytest.mark.parametrize("end", ["publish", "fail", "release", "close"])
def test_a_claim_ends_once(end: str, cache: Path, id: ArtifactId) -> None:
    with Registry(cache) as registry, Registry(cache) as other:
        claim = claimed(registry, id)
        endings: dict[str, Callable[[], object]] = {
            "publish": lambda: claim.publish(b"compiled"),
            "fail": lambda: claim.fail("it went wrong"),
            "release": claim.release,
            "close": registry.close,
        }
        endings[end]()
        if end == "release":
            prepared(other, id)  # the artifact may have another life meanwhile
        before = snapshot(cache)
        for again in (
            lambda: claim.publish(b"compiled again"),
            lambda: claim.fail("it went wrong again"),
            claim.release,
            lambda: claim.extend(timedelta(hours=1)),
        ):
            with pytest.raises(HandleClosed if end == "close" else ClaimLost):
                again()
        assert snapshot(cache) == before


# --- as a context manager -----------------------------------------------------------------------


def test_leaving_the_context_without_publishing_releases(
    registry: Registry, cache: Path, id: ArtifactId
) -> None:
    with claimed(registry, id) as claim:
        assert isinstance(claim, Claim)
    assert rows(cache) == []


@pytest.mark.parametrize("end", ["publish", "fail", "release"])
def test_what_was_done_in_the_context_stays_done(
    end: str, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    with claimed(registry, id) as claim:
        match end:
            case "publish":
                claim.publish(b"compiled")
            case "fail":
                claim.fail("it went wrong")
            case "release":
                claim.release()
        done = snapshot(cache)
    assert snapshot(cache) == done


def test_an_exception_in_the_context_fails_the_claim_and_goes_on(
    registry: Registry, id: ArtifactId
) -> None:
    with pytest.raises(ZeroDivisionError), claimed(registry, id):
        _ = 1 / 0
    artifact = registry.get(id)
    assert artifact is not None
    assert (artifact.error, artifact.error_kind) == ("division by zero", "ZeroDivisionError")
    assert artifact.retry_at is not None


def test_a_deterministic_error_in_the_context_is_never_retried(
    registry: Registry, id: ArtifactId
) -> None:
    with pytest.raises(PrepareError), claimed(registry, id):
        raise PrepareError("bad code", kind="compile")
    artifact = registry.get(id)
    assert artifact is not None
    assert (artifact.error_kind, artifact.retry_at) == ("compile", None)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit, Interruption])
def test_an_interruption_in_the_context_releases_the_claim_and_goes_on(
    stop: type[BaseException], registry: Registry, cache: Path, id: ArtifactId
) -> None:
    with pytest.raises(stop), claimed(registry, id):
        raise stop
    assert rows(cache) == []
