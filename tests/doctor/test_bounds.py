"""The doctor tells of all that grows, and of times that lie ahead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared

from registry import ArtifactId, Registry
from registry.doctor import Finding, examine


def finding(registry: Registry, name: str) -> Finding:
    (found,) = [found for found in examine(registry) if found.name == name]
    return found


def test_times_that_lie_ahead_are_told_until_they_are_brought_back(
    clock: FrozenDateTimeFactory, registry: Registry
) -> None:
    assert finding(registry, "clock").verdict == "ok"
    clock.tick(timedelta(days=30))
    needed, flaky, held = (ArtifactId.of(b"code %d" % number) for number in range(3))
    prepared(registry, needed)
    failed(registry, flaky)
    claim = claimed(registry, held)
    assert finding(registry, "clock").verdict == "ok"
    clock.tick(timedelta(days=-30))
    found = finding(registry, "clock")
    assert found.verdict == "note"
    assert "1 last uses, 1 failures, 1 claims" in found.value
    registry.need(needed)
    registry.claim(held)
    registry.get_or_prepare(flaky, lambda: b"good")
    assert finding(registry, "clock").verdict == "ok"
    del claim


def test_failures_beyond_their_bounds_are_told_and_what_is_advised_helps(
    registry: Registry,
) -> None:
    for number in range(5):
        failed(registry, ArtifactId.of(b"bad %d" % number))
    registry.configure(failed_max_count=2)
    found = finding(registry, "failures")
    assert found.verdict == "note"
    assert " prune`" in found.advice
    registry.prune()
    assert finding(registry, "failures").verdict == "ok"


def test_what_was_set_aside_is_told(registry: Registry, cache: Path) -> None:
    assert finding(registry, "set aside").value == "nothing"
    place = cache / "damaged" / "2026-01-01"
    place.mkdir(parents=True, mode=0o700)
    (place / "registry.db").write_bytes(b"x" * 2048)
    found = finding(registry, "set aside")
    assert (found.verdict, found.value) == ("note", "2.0 KiB in damaged/")
    assert found.figures == {"held": 2048}


def test_free_pages_are_told(registry: Registry) -> None:
    for number in range(50):
        claimed(registry, ArtifactId.of(b"bad %d" % number)).fail("e" * 65_536)
    registry.configure(failed_max_count=0)
    registry.prune()
    free = finding(registry, "free pages")
    assert free.verdict == "ok"  # little, in bytes
    assert free.figures["free"] > 2 * 1024**2
