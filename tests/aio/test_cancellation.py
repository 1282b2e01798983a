"""Whatever await a verb is cancelled at: the task ends as cancelled, and nothing is left half done.

Each verb is driven again and again, cancelled at its first suspension, its second, and so on until
it ends before the blow falls; in each of the three ways that `blows` knows. After every blow the
handle goes on to another verb, and then no claim of its own is left, no file that no row refers to,
no row without its file; and the same artifact can be prepared.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from registry import (
    Artifact,
    ArtifactId,
    AsyncClaim,
    AsyncRegistry,
    Claim,
    CleanupConfig,
    PreparationFailed,
    Registry,
    RetryPolicy,
    State,
    WaitTimeout,
)

from .blows import Blow, strike
from .making import DATA, DEAD, change, claimed, failed, files, held, neglect, prepare, prepared

# Longer than any verb takes here, so that it ends by itself only if it waits for a living host.
MOMENT = timedelta(milliseconds=10)


@dataclass
class Stage:
    """What a story is played on: a handle that is struck, and a rival host that is not."""

    registry: AsyncRegistry
    rival: Registry
    cache: Path
    id: ArtifactId
    props: Any = None


@dataclass(frozen=True)
class Story:
    """A verb: what is there before it, how it is called, and what holds if nothing hinders it."""

    act: Callable[[Stage], Awaitable[Any]]
    before: Callable[[Stage], Any] = lambda stage: None
    unhindered: Callable[[Any], object] = lambda answer: True


# --- what is there before -----------------------------------------------------------------------


def by_rival(stage: Stage) -> Artifact:
    return prepared(stage.rival, stage.id)


def damaged(stage: Stage) -> None:
    path = prepared(stage.rival, stage.id).path
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(b"other")


def failed_before(stage: Stage) -> None:
    failed(stage.rival, stage.id)
    change(stage.cache, stage.id, retry_at=0)


def claimed_by_the_living(stage: Stage) -> Claim:
    return claimed(stage.rival, stage.id)


def claimed_by_the_dead(stage: Stage) -> None:
    claim = claimed(stage.rival, stage.id)
    (stage.cache / "artifacts" / f"{claim._lease.path}.tmp").write_bytes(b"half of it")
    change(stage.cache, stage.id, host_id=DEAD)


def maintenance_due(stage: Stage) -> None:
    by_rival(stage)
    neglect(stage.cache)


# --- the verbs ----------------------------------------------------------------------------------


async def claim_and_leave(stage: Stage) -> bool:
    claim = await stage.registry.claim(stage.id)
    if isinstance(claim, AsyncClaim):
        await claim.release()
    return isinstance(claim, AsyncClaim)


def within_claim(act: Callable[[AsyncClaim, Stage], Awaitable[Any]]) -> Callable[[Stage], Any]:
    async def play(stage: Stage) -> Any:
        async with await held(stage.registry, stage.id) as claim:
            return await act(claim, stage)

    return play


def under_claim(act: Callable[[AsyncClaim, Stage], Awaitable[Any]]) -> Callable[[Stage], Any]:
    async def play(stage: Stage) -> Any:
        return await act(await held(stage.registry, stage.id), stage)

    return play


async def publish(claim: AsyncClaim, stage: Stage) -> Artifact:
    return await claim.publish(DATA)


async def publish_a_file(claim: AsyncClaim, stage: Stage) -> Artifact:
    made = stage.cache.parent / "made"
    made.write_bytes(DATA)
    return await claim.publish(made)


async def fail(claim: AsyncClaim, stage: Stage) -> Artifact:
    return await claim.fail("it went wrong")


async def release(claim: AsyncClaim, stage: Stage) -> bool:
    await claim.release()
    return True


async def extend(claim: AsyncClaim, stage: Stage) -> bool:
    await claim.extend(timedelta(hours=1))
    return True


async def leave_by_an_error(stage: Stage) -> bool:
    with suppress(ZeroDivisionError):
        async with await held(stage.registry, stage.id):
            raise ZeroDivisionError
    return True


async def wait_in_vain(stage: Stage) -> bool:
    with pytest.raises(WaitTimeout):
        await stage.registry.wait(stage.id, timeout=MOMENT)
    return True


async def get_or_wait_in_vain(stage: Stage) -> bool:
    with pytest.raises(WaitTimeout):
        await stage.registry.get_or_prepare(stage.id, prepare, timeout=MOMENT)
    return True


async def get_or_fail(stage: Stage) -> bool:
    async def go_wrong() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(PreparationFailed):
        await stage.registry.get_or_prepare(stage.id, go_wrong)
    return True


async def read_file(stage: Stage) -> bool:
    with await stage.registry.open_file(stage.id) as file:
        return file.read() == DATA


async def need_twice(stage: Stage) -> Artifact | None:
    await stage.registry.need(stage.id)
    return await stage.registry.need(stage.id)


def is_prepared(answer: Artifact) -> bool:
    return answer.state is State.PREPARED


def is_failed(answer: Artifact) -> bool:
    return answer.state is State.FAILED


STORIES = {
    "get": Story(lambda s: s.registry.get(s.id), by_rival, is_prepared),
    "need": Story(lambda s: s.registry.need(s.id), by_rival, is_prepared),
    "need a known one": Story(need_twice, by_rival, is_prepared),
    "need a damaged one": Story(lambda s: s.registry.need(s.id), damaged, lambda got: got is None),
    "claim": Story(claim_and_leave, unhindered=bool),
    "claim a failed one": Story(claim_and_leave, failed_before, bool),
    "claim a dead host's": Story(claim_and_leave, claimed_by_the_dead, bool),
    "claim a living host's": Story(claim_and_leave, claimed_by_the_living, lambda won: not won),
    "publish": Story(within_claim(publish), unhindered=is_prepared),
    "publish a file": Story(within_claim(publish_a_file), unhindered=is_prepared),
    "publish what failed": Story(within_claim(publish), failed_before, is_prepared),
    "publish, claim dropped": Story(under_claim(publish), unhindered=is_prepared),
    "publish when maintenance is due": Story(
        within_claim(publish),
        lambda s: neglect(s.cache),
        is_prepared,
    ),
    "fail": Story(within_claim(fail), unhindered=is_failed),
    "fail, claim dropped": Story(under_claim(fail), unhindered=is_failed),
    "release": Story(within_claim(release), unhindered=bool),
    "release what failed": Story(within_claim(release), failed_before, bool),
    "release, claim dropped": Story(under_claim(release), failed_before, bool),
    "extend": Story(within_claim(extend), unhindered=bool),
    "leave a claim by an error": Story(leave_by_an_error, unhindered=bool),
    "wait for the living": Story(wait_in_vain, claimed_by_the_living, bool),
    "wait for the dead": Story(lambda s: s.registry.wait(s.id), claimed_by_the_dead, is_failed),
    "get_or_prepare": Story(
        lambda s: s.registry.get_or_prepare(s.id, prepare), unhindered=is_prepared
    ),
    "get_or_prepare in a thread": Story(
        lambda s: s.registry.get_or_prepare(s.id, lambda: DATA), unhindered=is_prepared
    ),
    "get_or_prepare, and fail": Story(get_or_fail, unhindered=bool),
    "get_or_prepare what failed": Story(
        lambda s: s.registry.get_or_prepare(s.id, prepare), failed_before, is_prepared
    ),
    "get_or_prepare what is there": Story(
        lambda s: s.registry.get_or_prepare(s.id, prepare), by_rival, is_prepared
    ),
    "get_or_prepare, joining the living": Story(get_or_wait_in_vain, claimed_by_the_living, bool),
    "get_or_prepare, joining the dead": Story(
        lambda s: s.registry.get_or_prepare(s.id, prepare), claimed_by_the_dead, is_prepared
    ),
    "open_file": Story(read_file, by_rival, bool),
    "find": Story(lambda s: s.registry.find(s.id.code_hash), by_rival, bool),
    "remove": Story(lambda s: s.registry.remove(s.id), by_rival, bool),
    "remove a failed one": Story(lambda s: s.registry.remove(s.id), failed_before, bool),
    "retry": Story(lambda s: s.registry.retry(s.id), failed_before, bool),
    "prune": Story(
        lambda s: s.registry.prune(cache_limit=0, min_stale_time=timedelta(0)), by_rival, bool
    ),
    "maintain": Story(lambda s: s.registry.maintain(), maintenance_due, bool),
    "check": Story(lambda s: s.registry.check(), by_rival, lambda report: report.ok),
    "check and repair": Story(
        lambda s: s.registry.check(repair=True), damaged, lambda report: not report.ok
    ),
    "stats": Story(lambda s: s.registry.stats(), by_rival, bool),
    "hosts": Story(lambda s: s.registry.hosts(), by_rival, lambda hosts: len(hosts) == 2),
    "settings": Story(lambda s: s.registry.settings(), unhindered=bool),
    "configure": Story(lambda s: s.registry.configure(max_retries=3), unhindered=bool),
    "diagnose": Story(lambda s: s.registry.diagnose(), by_rival, bool),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A claim is dropped when its last reference goes; it must not take the collector to see it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("blow", Blow, ids=lambda blow: blow.name.lower())
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_a_verb_cancelled_at_any_await_leaves_nothing_half_done(
    story: Story,
    blow: Blow,
    cache: Path,
    rival: Registry,
    new_id: Callable[[], ArtifactId],
) -> None:
    cleanup = CleanupConfig(min_stale_time=timedelta(0))  # so that each need writes
    retry = RetryPolicy(cooldown=timedelta(0))
    async with AsyncRegistry(cache, cleanup=cleanup, retry=retry) as registry:
        for at in count(1):
            stage = Stage(registry, rival, cache, new_id())
            held_by_rival = story.before(stage)
            fell, answer = await strike(call(story, stage), at, blow)
            if not fell:
                assert story.unhindered(answer), f"{answer!r} after {at - 1} suspensions"
                break
            await settles(stage, held_by_rival, blow)
            await can_be_prepared(stage)
    assert at > 1, "a verb that never waits cannot be cancelled, and need not be tried"


async def call(story: Story, stage: Stage) -> Any:
    return await story.act(stage)


async def settles(stage: Stage, held_by_rival: object, blow: Blow) -> None:
    """The next verb of the handle finds nothing half done, or mends it."""
    await stage.registry.retry(ArtifactId.of(b"another"))
    if isinstance(held_by_rival, Claim):
        held_by_rival.release()
    preparing = stage.rival.artifacts(state=State.PREPARING)
    assert [a for a in preparing if a.holder and a.holder.host_id != DEAD] == []
    left = [problem for problem in stage.rival.check().problems if problem.kind == "orphan_file"]
    assert left == [] or blow is Blow.SHUTDOWN, left
    stage.rival.check(repair=True)  # of what a story began with, the dead and damaged
    report = stage.rival.check(checksums=True)
    assert report.ok, report.problems
    named = {artifact.path.name for artifact in stage.rival.artifacts() if artifact.path}
    assert files(stage.cache) == named


async def can_be_prepared(stage: Stage) -> None:
    """And a second attempt works."""
    await stage.registry.retry(stage.id)
    await stage.registry.get_or_prepare(stage.id, prepare)
    with await stage.registry.open_file(stage.id) as file:
        assert file.read() == DATA
