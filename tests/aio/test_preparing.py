"""`prepare`, in all its forms, run once for all who ask; and all the ways in which it can end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from registry import (
    Artifact,
    ArtifactId,
    AsyncRegistry,
    PreparationFailed,
    RecursivePreparation,
    Registry,
    State,
)
from registry.verbs.waiting_room import Ticket, WaitingRoom

from .making import DATA, PATIENCE, claimed, prepare, until

MANY = 1000


class Preparing:
    """A `prepare` that counts its calls, says that it has begun, and goes on when it is let."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self) -> bytes:
        self.calls += 1
        self.begun.set()
        await self.may_end.wait()
        return DATA


async def all_wait(registry: AsyncRegistry, number: int) -> None:
    """Let the loop turn until so many tasks wait for another's preparation."""
    await until(lambda: len(registry._handle.waiting.waiting()) >= number)


# --- one for all --------------------------------------------------------------------------------


async def test_a_thousand_tasks_ask_and_one_prepares(cache: Path, id: ArtifactId) -> None:
    preparing = Preparing()
    async with AsyncRegistry(cache) as registry:
        asking = [
            asyncio.create_task(registry.get_or_prepare(id, preparing.__call__))
            for _ in range(MANY)
        ]
        await all_wait(registry, MANY - 1)
        preparing.may_end.set()
        answers = await asyncio.gather(*asking)
    assert preparing.calls == 1
    assert {answer.path for answer in answers} == {answers[0].path}
    assert {answer.state for answer in answers} == {State.PREPARED}


async def test_a_failure_is_everybody_s(cache: Path, id: ArtifactId) -> None:
    calls = []

    async def go_wrong() -> bytes:
        calls.append(1)
        await asyncio.sleep(0)
        raise ValueError("a bad module")

    async with AsyncRegistry(cache) as registry:
        asking = (registry.get_or_prepare(id, go_wrong) for _ in range(100))
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert len(calls) == 1
    assert {type(outcome) for outcome in outcomes} == {PreparationFailed}
    assert {str(outcome) for outcome in outcomes} == {str(outcomes[0])}
    causes = [outcome.__cause__ for outcome in outcomes if outcome.__cause__]
    assert [str(cause) for cause in causes] == ["a bad module"], "only where it ran"


async def test_when_the_preparer_is_cancelled_another_takes_over(
    cache: Path, id: ArtifactId
) -> None:
    first, second = Preparing(), Preparing()
    second.may_end.set()
    async with AsyncRegistry(cache) as registry:
        preparer = asyncio.create_task(registry.get_or_prepare(id, first.__call__))
        await first.begun.wait()
        others = [
            asyncio.create_task(registry.get_or_prepare(id, second.__call__)) for _ in range(10)
        ]
        await all_wait(registry, 10)
        preparer.cancel()
        answers = await asyncio.gather(*others)
        with pytest.raises(asyncio.CancelledError):
            await preparer
    assert (first.calls, second.calls) == (1, 1)
    assert {answer.num_failures for answer in answers} == {0}, "a cancellation is no failure"


@pytest.mark.parametrize("which", [0, 1], ids=["the leader", "another"])
async def test_a_waiter_that_is_cancelled_disturbs_nobody(
    cache: Path, id: ArtifactId, which: int
) -> None:
    preparing = Preparing()
    async with AsyncRegistry(cache) as registry:
        preparer = asyncio.create_task(registry.get_or_prepare(id, preparing.__call__))
        await preparing.begun.wait()
        waiters = [asyncio.create_task(registry.wait(id)) for _ in range(3)]
        await all_wait(registry, 3)
        waiters[which].cancel()
        await asyncio.wait((waiters[which],))
        preparing.may_end.set()
        others = await asyncio.gather(*waiters[:which], *waiters[which + 1 :], preparer)
        assert waiters[which].cancelled()
        assert registry._handle.waiting.waiting() == []
    assert [artifact.state for artifact in others] == [State.PREPARED] * 3


def test_a_leader_s_heir_that_goes_at_once_has_an_heir_itself(id: ArtifactId) -> None:
    room = WaitingRoom()
    tickets = [Ticket(id, 1, threading.Event()) for _ in range(5)]
    for ticket in tickets:
        room.enter(ticket)
    assert room.leads(tickets[0], now=0)
    leader = tickets[0]
    for left in range(4, 0, -1):
        room.leave(leader)  # woken but a moment ago, it has done nothing yet
        tickets.remove(leader)
        (leader,) = [ticket for ticket in tickets if ticket.signal.is_set()]
        assert len(tickets) == left
    assert room.leads(leader, now=0)


def test_a_leader_that_is_not_heard_of_any_more_is_replaced(id: ArtifactId) -> None:
    room = WaitingRoom()
    lost, heir = (Ticket(id, 1, threading.Event()) for _ in range(2))
    for ticket in (lost, heir):
        room.enter(ticket)
    assert room.leads(lost, now=0)
    assert not room.leads(heir, now=1)
    assert room.leads(lost, now=2)
    assert not room.leads(heir, now=3)
    assert room.leads(heir, now=5)
    assert not room.leads(lost, now=5)


async def test_all_waiters_may_be_cancelled(cache: Path, id: ArtifactId, rival: Registry) -> None:
    claim = claimed(rival, id)
    async with AsyncRegistry(cache) as registry:
        waiters = [asyncio.create_task(registry.wait(id)) for _ in range(100)]
        await all_wait(registry, 100)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.wait(waiters)
        assert all(waiter.cancelled() for waiter in waiters)
        claim.publish(DATA)
        artifact = await registry.wait(id)
    assert artifact is not None
    assert artifact.state is State.PREPARED


# --- the forms of a prepare ---------------------------------------------------------------------


class Compiler:
    """An object that is called, and answers something to be awaited."""

    async def __call__(self) -> bytes:
        return await compile_module("module")


async def compile_module(name: str) -> bytes:
    await asyncio.sleep(0)
    return name.encode()


async def a_path(folder: Path) -> Path:
    made = folder / "made"
    made.write_bytes(b"module")
    return made


FORMS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "a function": lambda folder: lambda: b"module",
    "a lambda that answers a coroutine": lambda folder: lambda: compile_module("module"),
    "a partial of a coroutine function": lambda folder: partial(compile_module, "module"),
    "an object with an async call": lambda folder: Compiler(),
    "a coroutine function of a path": lambda folder: partial(a_path, folder),
    "a function that answers a task": lambda folder: partial(started, asyncio.get_running_loop()),
}


def started(loop: asyncio.AbstractEventLoop) -> Awaitable[bytes]:
    started = asyncio.run_coroutine_threadsafe(compile_module("module"), loop)
    return asyncio.wrap_future(started, loop=loop)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_a_prepare_may_be_any_of_these(
    form: Callable[[Path], Callable[[], Any]], cache: Path, id: ArtifactId
) -> None:
    async with AsyncRegistry(cache) as registry:
        artifact = await registry.get_or_prepare(id, form(cache.parent))
        with await registry.open_file(id) as file:
            assert file.read() == b"module"
    assert artifact.state is State.PREPARED


async def test_a_prepare_that_blocks_does_not_block_the_loop(cache: Path, id: ArtifactId) -> None:
    begun, loop_went_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def block() -> bytes:
        threads.append(threading.current_thread())
        begun.set()
        assert loop_went_on.wait(PATIENCE)
        return DATA

    async with AsyncRegistry(cache) as registry:
        preparer = asyncio.create_task(registry.get_or_prepare(id, block))
        await until(begun.is_set)
        loop_went_on.set()
        await preparer
    assert threads != [threading.current_thread()]


async def test_a_cancelled_prepare_in_a_thread_is_left_behind(
    cache: Path, id: ArtifactId, rival: Registry
) -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def block() -> bytes:
        begun.set()
        may_end.wait(PATIENCE)
        ended.set()
        return b"too late"

    async with AsyncRegistry(cache) as registry:
        preparer = asyncio.create_task(registry.get_or_prepare(id, block))
        await until(begun.is_set)
        preparer.cancel()
        await asyncio.wait((preparer,))
        assert rival.get(id) is None, "its claim is given back, although it still runs"
        artifact = await registry.get_or_prepare(id, prepare)
        may_end.set()
        await asyncio.to_thread(ended.wait, PATIENCE)
        with await registry.open_file(id) as file:
            assert file.read() == DATA
        assert rival.get(id).path == artifact.path


# --- how it ends --------------------------------------------------------------------------------


async def in_a_coroutine(error: BaseException) -> bytes:
    await asyncio.sleep(0)
    raise error


def in_a_thread(error: BaseException) -> bytes:
    raise error


PLACES = pytest.mark.parametrize("place", [in_a_coroutine, in_a_thread])


@PLACES
@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_releases_the_claim_and_goes_on(
    place: Callable[[BaseException], Any],
    error: type[BaseException],
    cache: Path,
    id: ArtifactId,
    rival: Registry,
) -> None:
    seen: list[Artifact | None] = []

    async def main() -> None:
        async with AsyncRegistry(cache) as registry:
            try:
                await registry.get_or_prepare(id, partial(place, error("stop")))
            finally:
                seen.append(rival.get(id))

    with pytest.raises(error, match="stop"):
        asyncio.run(main())
    assert seen == [None], "no claim is left, and no failure is remembered"
    assert len(rival.hosts()) == 1, "and the handle was closed on the way out"


@PLACES
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop_from_another_task_leaves_no_claim(
    place: Callable[[BaseException], Any],
    error: type[BaseException],
    cache: Path,
    new_id: Callable[[], ArtifactId],
    rival: Registry,
) -> None:
    tasks: list[asyncio.Task[Artifact]] = []

    async def main() -> None:
        async with AsyncRegistry(cache) as registry:
            preparing = Preparing()
            hang = registry.get_or_prepare(new_id(), preparing.__call__)
            tasks.append(asyncio.create_task(hang))
            await preparing.begun.wait()
            stop = registry.get_or_prepare(new_id(), partial(place, error("stop")))
            tasks.append(asyncio.create_task(stop))
            await asyncio.Event().wait()

    with pytest.raises(error, match="stop"):
        asyncio.run(main())
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), error)
    assert list(rival.artifacts()) == []
    assert len(rival.hosts()) == 1


@PLACES
async def test_an_exception_is_remembered_by_its_type(
    place: Callable[[BaseException], Any], cache: Path, id: ArtifactId
) -> None:
    async with AsyncRegistry(cache) as registry:
        with pytest.raises(PreparationFailed, match="no such key") as failure:
            await registry.get_or_prepare(id, partial(place, KeyError("no such key")))
        artifact = await registry.get(id)
    assert isinstance(failure.value.__cause__, KeyError)
    assert failure.value.artifact == artifact
    assert artifact is not None
    assert artifact.error_kind == "KeyError"


async def test_a_coroutine_function_that_wants_arguments_fails_as_a_function_does(
    cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    async with AsyncRegistry(cache) as registry:
        for prepare_it in (compile_module, in_a_thread):
            named = new_id()
            with pytest.raises(TypeError, match="missing 1 required"):
                await registry.get_or_prepare(named, prepare_it)  # type: ignore[arg-type]
            assert await registry.get(named) is None


async def test_a_prepare_that_survives_its_cancellation_is_published(
    cache: Path, id: ArtifactId
) -> None:
    preparing = Preparing()

    async def stubborn() -> bytes:
        try:
            return await preparing()
        except asyncio.CancelledError:
            return b"all the same"

    async with AsyncRegistry(cache) as registry:
        preparer = asyncio.create_task(registry.get_or_prepare(id, stubborn))
        await preparing.begun.wait()
        preparer.cancel()
        artifact = await preparer
        with await registry.open_file(id) as file:
            assert file.read() == b"all the same"
    assert artifact.state is State.PREPARED


# --- asking for what one is preparing -----------------------------------------------------------


async def test_a_prepare_that_asks_for_its_own_artifact_is_told_at_once(
    cache: Path, id: ArtifactId
) -> None:
    heard = []

    async def ask_again() -> bytes:
        for ask in (
            lambda: registry.get_or_prepare(id, prepare),
            lambda: registry.wait(id),
            lambda: other.get_or_prepare(id, prepare),
            lambda: other.wait(id),
        ):
            with pytest.raises(RecursivePreparation) as refusal:
                await ask()
            heard.append(refusal.value)
        with pytest.raises(RecursivePreparation):
            sync.get_or_prepare(id, lambda: DATA)
        standing = await registry.claim(id)
        assert isinstance(standing, Artifact)
        assert standing.state is State.PREPARING
        return DATA

    async with AsyncRegistry(cache) as registry, AsyncRegistry(cache) as other:
        with Registry(cache) as sync:
            await registry.get_or_prepare(id, ask_again)
        assert (await other.need(id)) is not None
    assert len(heard) == 4


async def test_so_is_one_in_a_thread(cache: Path, id: ArtifactId, rival: Registry) -> None:
    def ask_again() -> bytes:
        with pytest.raises(RecursivePreparation):
            rival.get_or_prepare(id, lambda: DATA)
        with pytest.raises(RecursivePreparation):
            rival.wait(id)
        return DATA

    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(id, ask_again)


async def test_so_is_one_that_runs_a_loop_in_its_thread(cache: Path, id: ArtifactId) -> None:
    async def ask() -> None:
        async with AsyncRegistry(cache) as other:
            with pytest.raises(RecursivePreparation):
                await other.get_or_prepare(id, prepare)

    def run_a_loop() -> bytes:
        asyncio.run(ask())
        return DATA

    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(id, run_a_loop)


async def test_a_task_that_a_prepare_starts_may_wait_for_it(cache: Path, id: ArtifactId) -> None:
    children: list[asyncio.Task[Artifact]] = []

    async def start_a_child() -> bytes:
        children.append(asyncio.create_task(registry.get_or_prepare(id, prepare)))
        await all_wait(registry, 1)
        return b"its parent's"

    async with AsyncRegistry(cache) as registry:
        artifact = await registry.get_or_prepare(id, start_a_child)
        assert (await children[0]).path == artifact.path


async def test_a_prepare_may_ask_for_other_artifacts(
    cache: Path, new_id: Callable[[], ArtifactId]
) -> None:
    ids = [new_id() for _ in range(5)]

    async def with_all_before(number: int) -> bytes:
        for before in range(number):
            await registry.get_or_prepare(ids[before], partial(with_all_before, before))
        return DATA

    async with AsyncRegistry(cache) as registry:
        await registry.get_or_prepare(ids[4], partial(with_all_before, 4))
        assert (await registry.stats()).prepared_count == 5
