"""Stories of verbs, each told of an id that is new: what is there before, and what is then done.

A story sets its scene and answers the act; what the act holds (a `Claim`) goes when the act does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support.between import Perform, between
from support.making import claimed, failed, prepared
from support.paths import path_of, spoil
from support.tables import DEAD, change, connected, row

from registry import ArtifactId, Claim, PreparationFailed, Registry
from registry.effects import Effect, Sleep

__all__ = ["STORIES", "STORIES_OF_CLAIMS", "Act", "Scene", "Story", "make_maintenance_due"]

NOW = timedelta(0)
SOON = timedelta(seconds=30)
GARBAGE = "9" * 128 + ".pvf"


@dataclass
class Scene:
    """Who is on the stage: a handle that is interrupted, another one, an id that is new."""

    registry: Registry
    other: Registry
    cache: Path
    id: ArtifactId

    def source(self) -> Path:
        made = self.cache.with_name("made")
        made.write_bytes(b"artifact")
        return made


Act: TypeAlias = Callable[[], object]
Story: TypeAlias = Callable[[Scene], Act]


def claiming(scene: Scene) -> Act:
    return lambda: scene.registry.claim(scene.id)


def claiming_after_a_failure(scene: Scene) -> Act:
    failed(scene.registry, scene.id)
    scene.registry.retry(scene.id)
    return lambda: scene.registry.claim(scene.id)


def taking_over(scene: Scene) -> Act:
    claim = claimed(scene.other, scene.id)
    change(scene.cache, scene.id, host_id=DEAD)
    found = row(scene.cache, scene.id)
    assert found is not None
    (scene.cache / "artifacts" / f"{found['path']}.tmp").write_bytes(b"half an artifact")
    return lambda: claim and scene.registry.claim(scene.id)


def publishing_bytes(scene: Scene) -> Act:
    claim = claimed(scene.registry, scene.id)
    return lambda: claim.publish(b"artifact")


def publishing_a_path(scene: Scene) -> Act:
    claim, source = claimed(scene.registry, scene.id), scene.source()
    return lambda: claim.publish(source)


def publishing_over_the_limit(scene: Scene) -> Act:
    scene.registry.configure(cache_limit=10, min_stale_time=NOW)
    prepared(scene.other, ArtifactId.of(scene.id.code_hash.encode()))
    claim = claimed(scene.registry, scene.id)
    return lambda: claim.publish(b"artifact")


def failing(scene: Scene) -> Act:
    claim = claimed(scene.registry, scene.id)
    return lambda: claim.fail("it went wrong")


def releasing(scene: Scene) -> Act:
    claim = claimed(scene.registry, scene.id)
    return lambda: claim.release()


def extending(scene: Scene) -> Act:
    claim = claimed(scene.registry, scene.id)
    return lambda: claim.extend(SOON)


def leaving_a_claim(scene: Scene) -> Act:
    """As a context manager, with what it does about an interruption."""

    def act() -> None:
        with claimed(scene.registry, scene.id) as claim:
            claim.publish(b"artifact")

    return act


def preparing(scene: Scene) -> Act:
    return lambda: scene.registry.get_or_prepare(scene.id, lambda: b"artifact", timeout=SOON)


def preparing_a_path(scene: Scene) -> Act:
    return lambda: scene.registry.get_or_prepare(scene.id, scene.source, timeout=SOON)


def preparing_in_vain(scene: Scene) -> Act:
    def prepare() -> bytes:
        raise ValueError("it went wrong")

    def act() -> None:
        with pytest.raises(PreparationFailed, match="went wrong"):
            scene.registry.get_or_prepare(scene.id, prepare, timeout=SOON)

    return act


def preparing_what_is_prepared(scene: Scene) -> Act:
    prepared(scene.other, scene.id)
    return preparing(scene)


def preparing_what_is_damaged(scene: Scene) -> Act:
    spoil(path_of(prepared(scene.other, scene.id)), b"?")
    return preparing(scene)


def ending(scene: Scene, verb: Callable[[], object], end: Callable[[Claim], object]) -> Act:
    """A verb that waits for the other's preparation, which ends once it has slept twice."""
    claim, sleeps = claimed(scene.other, scene.id), count()

    def wait_for_it(_number: int, effect: Effect[Any], perform: Perform) -> Any:
        if isinstance(effect, Sleep) and next(sleeps) == 2:
            end(claim)
        return perform(effect)

    def act() -> None:
        with between(scene.registry, wait_for_it):
            verb()

    return act


def waiting(scene: Scene) -> Act:
    return ending(
        scene,
        lambda: scene.registry.wait(scene.id, timeout=SOON),
        lambda claim: claim.publish(b"artifact"),
    )


def joining(scene: Scene) -> Act:
    return ending(scene, preparing(scene), lambda claim: claim.publish(b"artifact"))


def joining_what_is_given_back(scene: Scene) -> Act:
    return ending(scene, preparing(scene), lambda claim: claim.release())


def needing(scene: Scene) -> Act:
    prepared(scene.other, scene.id)
    return lambda: scene.registry.need(scene.id)


def needing_what_is_damaged(scene: Scene) -> Act:
    spoil(path_of(prepared(scene.other, scene.id)), b"?")
    return lambda: scene.registry.need(scene.id)


def opening_a_file(scene: Scene) -> Act:
    prepared(scene.other, scene.id)
    return lambda: scene.registry.open_file(scene.id).close()


def removing(scene: Scene) -> Act:
    prepared(scene.other, scene.id)
    return lambda: scene.registry.remove(scene.id)


def pruning(scene: Scene) -> Act:
    prepared(scene.other, scene.id)
    prepared(scene.other, ArtifactId.of(scene.id.code_hash.encode()))
    return lambda: scene.registry.prune(cache_limit=0, min_stale_time=NOW)


def retrying(scene: Scene) -> Act:
    failed(scene.other, scene.id)
    return lambda: scene.registry.retry(scene.id)


def mending(scene: Scene) -> Act:
    spoil(path_of(prepared(scene.other, scene.id)), b"?")
    (scene.cache / "artifacts" / GARBAGE).write_bytes(b"?")
    return lambda: scene.registry.check(repair=True)


def make_maintenance_due(cache: Path) -> None:
    with connected(cache) as connection:
        connection.execute("UPDATE maintenance SET last_done = 0")


def maintaining(scene: Scene) -> Act:
    mending(scene)
    make_maintenance_due(scene.cache)
    with connected(scene.cache) as connection:
        connection.execute(f"INSERT OR IGNORE INTO host VALUES ('{DEAD}', 1, 'h', 'c', 1, '0.1.0')")
    return lambda: scene.registry.maintain()


STORIES_OF_CLAIMS: list[Story] = [
    claiming,
    claiming_after_a_failure,
    taking_over,
    publishing_bytes,
    publishing_a_path,
    publishing_over_the_limit,
    failing,
    releasing,
    extending,
    leaving_a_claim,
    preparing,
    preparing_a_path,
    preparing_in_vain,
    joining,
    joining_what_is_given_back,
]
STORIES: list[Story] = [
    *STORIES_OF_CLAIMS,
    preparing_what_is_prepared,
    preparing_what_is_damaged,
    needing,
    needing_what_is_damaged,
    opening_a_file,
    removing,
    pruning,
    retrying,
    waiting,
    mending,
    maintaining,
]
