"""A story told through either handle ends the same: each answer, each error, word for word.

What the sync handle answers is tested elsewhere; here it is the oracle. It is dressed so that it
can be awaited, and both play the same stories, on caches of their own, at the same frozen time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import is_dataclass
from datetime import timedelta
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory

from registry import (
    ArtifactId,
    AsyncClaim,
    AsyncRegistry,
    Claim,
    PrepareError,
    Registry,
    State,
)

from .making import DEAD, change, claimed, failed, neglect, prepared

Clock: TypeAlias = FrozenDateTimeFactory
Steps: TypeAlias = AsyncIterator[Awaitable[Any]]
MOMENT = timedelta(milliseconds=5)
NOON = "2026-01-01 12:00:00"


class Dressed:
    """A sync handle, or a claim of its, in the clothes of its twin."""

    def __init__(self, worn_by: Any) -> None:
        self._it = worn_by

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._it, name)
        if not callable(found):
            return found
        return self._iterated(found) if name == "artifacts" else self._awaited(found)

    def _awaited(self, verb: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = verb(*args, **kwargs)
            return Dressed(answer) if isinstance(answer, Claim) else answer

        return call

    def _iterated(self, verb: Callable[..., Iterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def iterate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            for each in verb(*args, **kwargs):
                yield each

        return iterate

    async def __aenter__(self) -> Dressed:
        self._it.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return self._it.__exit__(*error)


# --- the stories: what they yield is awaited, and what comes of it compared ---------------------


async def nobody_knows_it(r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock) -> Steps:
    yield r.get(id)
    yield r.need(id)
    yield r.wait(id)
    yield r.remove(id)
    yield r.retry(id)
    yield r.open_file(id)
    yield r.find(id.code_hash)


async def it_is_prepared(r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock) -> Steps:
    async with await r.claim(id, label="a module") as claim:
        yield given(claim)
        yield r.get(id)
        yield claim.extend(timedelta(hours=2))
        yield given(claim.artifact)
        yield claim.publish(b"compiled")
    yield r.get(id)
    yield r.need(id)
    yield r.wait(id)
    yield r.claim(id)
    yield r.open_file(id)
    yield r.find(id.code_hash[:8])
    yield r.get_or_prepare(id, lambda: b"not called")
    yield r.remove(id)
    yield r.remove(id)


async def it_is_published_from_a_file(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    made = rival.cache_dir.parent / "made"
    made.write_bytes(b"compiled")
    yield (await r.claim(id)).publish(made)
    yield given(made.exists())
    yield r.open_file(id)


async def it_is_another_s_to_prepare(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    claim = claimed(rival, id)
    yield r.claim(id)
    yield r.need(id)
    yield r.remove(id)
    yield r.retry(id)
    yield r.wait(id, timeout=MOMENT)
    yield r.get_or_prepare(id, lambda: b"", timeout=MOMENT)
    claim.fail("it went wrong")
    yield r.wait(id)
    yield r.get_or_prepare(id, lambda: b"")


async def its_host_is_dead(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    claimed(rival, id)
    change(rival.cache_dir, id, host_id=DEAD)
    yield r.wait(id)
    yield r.get_or_prepare(id, lambda: b"compiled")


async def it_fails(r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock) -> Steps:
    yield (await r.claim(id)).fail("it went wrong", kind="compiler")
    yield r.claim(id)
    yield r.wait(id)
    yield r.get_or_prepare(id, lambda: b"")
    yield r.retry(id)
    claim = await r.claim(id)
    yield given(claim)
    yield claim.release()
    yield r.get(id)
    yield r.get_or_prepare(id, lambda: b"compiled")


async def preparing_it_raises(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    def go_wrong() -> bytes:
        raise ValueError("a bad module")

    yield r.get_or_prepare(id, go_wrong)
    yield r.get_or_prepare(id, go_wrong)
    yield r.get(id)


async def it_can_never_be_prepared(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    def refuse() -> bytes:
        raise PrepareError("no such instruction", kind="syntax")

    yield r.get_or_prepare(id, refuse, label="a bad module")
    yield r.get(id)


async def what_prepare_answers_is_none(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    yield r.get_or_prepare(id, lambda: None)
    yield r.retry(id)
    yield r.get_or_prepare(id, lambda: b"")
    yield r.retry(id)
    yield r.get_or_prepare(id, lambda _: b"it takes an argument")


async def a_claim_is_left(r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock) -> Steps:
    async with await r.claim(id):
        pass
    yield r.get(id)
    with pytest.raises(ZeroDivisionError):
        async with await r.claim(id) as claim:
            raise ZeroDivisionError("in the middle")
    yield r.get(id)
    yield given(claim.artifact)
    yield claim.release()


async def a_claim_has_ended(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    claim = await r.claim(id)
    yield claim.publish(b"compiled")
    yield claim.publish(b"again")
    yield claim.fail("it went wrong")
    yield claim.release()
    yield claim.extend(timedelta(1))
    yield r.need(id)


async def a_claim_is_lost(r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock) -> Steps:
    claim = await r.claim(id, timeout=timedelta(0))
    yield given(rival.claim(id))
    yield claim.publish(b"too late")
    yield r.get(id)


async def what_is_given_is_wrong(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    for wrong in (None, "code/prep", 1):
        yield r.get(wrong)
        yield r.need(wrong)
        yield r.claim(wrong)
        yield r.wait(wrong)
        yield r.remove(wrong)
        yield r.retry(wrong)
        yield r.open_file(wrong)
        yield r.get_or_prepare(wrong, bytes)
    yield r.get_or_prepare(id, b"no function")
    yield r.wait(id, timeout=1)
    yield r.claim(id, timeout=1)
    yield r.claim(id, label="N\0L")
    yield r.find("XYZ")
    yield r.find("")
    yield r.prune(cache_limit=-1)
    yield r.prune(min_stale_time=1)
    yield r.configure(no_such=1)
    yield r.configure(cache_limit=1.5)
    yield listed(r, state="prepared")
    async with await r.claim(id) as claim:
        yield claim.publish("a str is neither a path nor bytes")
        yield claim.publish(b"")
        yield claim.publish(Path("/no/such/file"))
        yield claim.fail("")
        yield claim.fail(3)
        yield claim.extend(3)
    yield r.get(id)


async def there_are_several(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    for number in range(5):
        prepared(rival, ArtifactId.of(b"%d" % number), b"x" * (number + 1))
    failed(rival, ArtifactId.of(b"bad"))
    claim = claimed(rival, ArtifactId.of(b"now"))
    for state in (None, *State):
        yield listed(r, state=state)
    yield r.stats()
    yield r.find("")
    yield r.prune(cache_limit=9, min_stale_time=timedelta(0), dry_run=True)
    yield r.prune(cache_limit=9, min_stale_time=timedelta(0))
    yield r.prune()
    yield r.stats()
    yield r.hosts()
    claim.release()
    yield r.check(checksums=True)


async def settings_change(r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock) -> Steps:
    yield r.settings()
    yield r.configure(cache_limit=10, hard_limit=None, max_retries=0)
    yield r.configure()
    yield given(rival.settings())
    yield r.stats()
    yield (await r.claim(id)).fail("it went wrong")


async def a_file_is_damaged(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    yield (await r.claim(id)).publish(b"compiled")
    artifact = await r.need(id)
    artifact.path.chmod(0o600)
    artifact.path.write_bytes(b"damages!")
    yield r.check(checksums=True)
    yield r.need(id)
    yield r.get(id)
    yield r.get_or_prepare(id, lambda: b"compiled")
    (artifact.path.parent / ("0" * 128 + ".pvf")).write_bytes(b"garbage")
    yield r.check()
    yield r.check(repair=True)
    yield r.check()
    yield r.diagnose()


async def maintenance_is_due(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    yield r.maintain()
    neglect(rival.cache_dir)
    yield r.maintain()
    yield r.maintain()


async def needs_are_written_once_a_second(
    r: AsyncRegistry, id: ArtifactId, rival: Registry, clock: Clock
) -> Steps:
    yield given(prepared(rival, id))
    for _ in range(3):
        yield r.need(id)
        yield given(rival.get(id))
        clock.tick(timedelta(milliseconds=600))


STORIES = [
    nobody_knows_it,
    it_is_prepared,
    it_is_published_from_a_file,
    it_is_another_s_to_prepare,
    its_host_is_dead,
    it_fails,
    preparing_it_raises,
    it_can_never_be_prepared,
    what_prepare_answers_is_none,
    a_claim_is_left,
    a_claim_has_ended,
    a_claim_is_lost,
    what_is_given_is_wrong,
    there_are_several,
    settings_change,
    a_file_is_damaged,
    maintenance_is_due,
    needs_are_written_once_a_second,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_both_handles_tell_the_same_story(story: Callable[..., Steps], cache: Path) -> None:
    dressed, awaited = (
        shutil.copytree(cache, cache.parent / name / "cache") for name in ("sync", "async")
    )
    with freeze_time(NOON, real_asyncio=True) as clock:
        with Registry(dressed) as sync:
            clock.tick()
            with Registry(dressed) as rival:
                expected = await played(story, Dressed(sync), rival, clock)
        clock.move_to(NOON)
        async with AsyncRegistry(awaited) as registry:
            clock.tick()
            with Registry(awaited) as rival:
                found = await played(story, registry, rival, clock)
    assert found == expected
    assert len(found) > 1


async def played(
    story: Callable[..., Steps], registry: Any, rival: Registry, clock: Clock
) -> list[Any]:
    """Tell a story; what each of its steps came to."""
    outcomes = []
    async for step in story(registry, ArtifactId.of(b"code"), rival, clock):
        try:
            outcomes.append(shown(await step))
        except Exception as error:
            outcomes.append((type(error).__name__, worded(str(error))))
    return outcomes


async def given(value: Any) -> Any:
    return value


async def listed(registry: AsyncRegistry, *, state: Any) -> list[Any]:
    return [artifact async for artifact in registry.artifacts(state=state)]


def shown(answer: Any) -> Any:
    """What of an answer must be the same for both: not what chance and the machine decide."""
    match answer:
        case AsyncClaim() | Claim() | Dressed():
            return "a claim", shown(answer.artifact)
        case BufferedReader():
            with answer:
                return answer.read()
        case list() | tuple():
            return [shown(each) for each in answer]
        case _ if is_dataclass(answer):
            return worded(repr(answer))
        case _:
            return answer


def worded(text: str) -> str:
    """A text without the names that are drawn at random."""
    text = re.sub(r"/\S*?/(a?sync)/cache", "CACHE", text)
    text = re.sub(r"\b[0-9a-f]{128}\b", "NAME", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "HOST", text)
    return re.sub(r"prepare_seconds=[\d.e-]+", "prepare_seconds=SOME", text)
