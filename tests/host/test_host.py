"""What each verb of a host does, by the state that the artifact is in."""

from __future__ import annotations

import asyncio

import pytest
from host.hosting import hosting, id_of, published, until
from host.stories import ECHO, meeting, running_in, story, wish
from support.making import claimed, failed
from support.paths import SPOILED, path_of
from support.tables import change, row, snapshot
from support.threads import waiters

from registry import NotPrepared, PreparationFailed, Registry, State
from registry.world import clock

FINE = wish("answer")
REFUSED = wish("raise", error="Prevalidation")
TIRED = wish("raise", error="Transient")
READ = {"do": "read"}
LONG_AGO = 1_000_000  # microseconds
STATES_OF_FAILURE = ["may be retried now", "may not be retried yet", "will never be retried"]


def make_failed(cache, code: bytes, state: str) -> None:
    with Registry(cache) as other:
        failed(other, id_of(code), retryable=state != "will never be retried")
    if state == "may be retried now":
        change(cache, id_of(code), retry_at=LONG_AGO)


# --- unknown ------------------------------------------------------------------------------------


@story
async def test_precheck_prepares_what_nobody_knows(hosted):
    async with hosting(hosted, ECHO) as host:
        artifact = await host.precheck(b"code", {"level": 2}, label="mine")
        assert artifact.id == id_of(b"code", ECHO, level=2)
        assert path_of(artifact).read_bytes() == b"code[('level', 2)]"
        assert (artifact.state, artifact.label) == (State.PREPARED, "mine")


@story
async def test_execute_prepares_what_nobody_knows_and_executes_it(hosted):
    async with hosting(hosted, ECHO) as host:
        answer = await host.execute(b"code", {}, {"a": [1, None, "ü", b"\0"]}, label="mine")
        assert answer == [b"code[]", {"a": [1, None, "ü", b"\0"]}]
    assert row(hosted, id_of(b"code", ECHO))["label"] == "mine"


@story
async def test_a_heads_up_begins_to_prepare_and_answers_at_once(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        await host.heads_up([(FINE, {}), (code, {}), (code, {})])
        guest = await held.guest()  # nobody awaits it
        guest.dismiss()
        await host.stop(drain=True)
        assert held.empty()
    assert row(hosted, id_of(FINE))["state"] == row(hosted, id_of(code))["state"] == "prepared"


@story
async def test_a_claim_is_held_for_four_times_the_cpu_limit_and_half_a_minute(hosted):
    async with meeting() as held, hosting(hosted) as host:
        codes = [wish("meet", at=held.at, number=number) for number in range(3)]
        asking = [
            lambda: host.precheck(codes[0]),
            lambda: host.heads_up([(codes[1], {})]),
            lambda: host.execute(codes[2], {}, READ),
        ]
        for code, ask, cpu_limit in zip(codes, asking, (60, 360, 360), strict=True):
            asked = asyncio.create_task(ask())
            guest = await held.guest()
            claim = row(hosted, id_of(code))
            assert claim["deadline"] - claim["claimed_at"] == (4 * cpu_limit + 30) * 10**6
            guest.dismiss()
            await asked


@story
async def test_what_is_queued_is_claimed_at_once_and_its_seconds_count_from_its_worker(
    hosted, monkeypatch
):
    waited, elapsed = [0.0], clock.elapsed
    monkeypatch.setattr(clock, "elapsed", lambda: elapsed() + waited[0])
    async with meeting() as held, hosting(hosted) as host:
        first = asyncio.create_task(host.precheck(wish("meet", at=held.at)))
        guest = await held.guest()
        second = asyncio.create_task(host.precheck(FINE))
        await until(lambda: host.metrics.prepare.enqueued == 2)
        assert row(hosted, id_of(FINE))["state"] == "preparing"
        waited[0] = 1000.0
        guest.dismiss()
        assert (await first).prepare_seconds > 1000
        assert (await second).prepare_seconds < 1000


# --- preparing ----------------------------------------------------------------------------------


@story
async def test_whoever_asks_for_what_is_being_prepared_here_joins(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        first = asyncio.create_task(host.precheck(code))
        guest = await held.guest()
        await host.heads_up([(code, {})])
        second = asyncio.create_task(host.precheck(code))
        third = asyncio.create_task(host.execute(code, {}, READ))
        guest.dismiss()
        assert await first == await second
        assert await third == b"prepared"
        assert held.empty()


@pytest.mark.parametrize("end", ["published", "failed for good", "failed", "released"])
@story
async def test_whoever_asks_for_what_another_prepares_joins(hosted, end):
    with Registry(hosted) as other, waiters() as waiting:
        claim = claimed(other, id_of(FINE))
        async with hosting(hosted) as host:
            await host.heads_up([(FINE, {})])
            asking = [
                asyncio.create_task(host.precheck(FINE)),
                asyncio.create_task(host.execute(FINE, {}, READ)),
            ]
            await asyncio.to_thread(waiting.await_, 1)
            match end:
                case "published":
                    claim.publish(b"theirs")
                case "failed for good":
                    claim.fail("bad code", retryable=False)
                case "failed":
                    claim.fail("bad day")
                case "released":
                    claim.release()
            checked, executed = await asyncio.gather(*asking, return_exceptions=True)
            mine = running_in(hosted)
    match end:
        case "published":
            assert (path_of(checked).read_bytes(), executed) == (b"theirs", b"theirs")
        case "released":
            assert (path_of(checked).read_bytes(), executed) == (b"prepared", b"prepared")
        case _:
            assert isinstance(checked, PreparationFailed)
            assert isinstance(executed, NotPrepared) is (end == "failed")
            assert checked.artifact == executed.artifact
            assert mine == [], "nothing was to be prepared or executed here"


# --- prepared -----------------------------------------------------------------------------------


@story
async def test_what_is_prepared_is_answered_and_bumped(hosted):
    artifact = published(hosted, FINE, b"theirs")
    async with hosting(hosted) as host:
        for ask in (
            lambda: host.precheck(FINE),
            lambda: host.heads_up([(FINE, {})]),
        ):
            change(hosted, artifact.id, last_time_needed=LONG_AGO)
            host._registry._handle.hot.clear()  # as if it had not been asked within the second
            await ask()
            assert row(hosted, artifact.id)["last_time_needed"] > LONG_AGO
        assert running_in(hosted) == [], "no worker was needed"
        change(hosted, artifact.id, last_time_needed=LONG_AGO)
        host._registry._handle.hot.clear()
        assert await host.execute(FINE, {}, READ) == b"theirs"
        assert row(hosted, artifact.id)["last_time_needed"] > LONG_AGO


@pytest.mark.parametrize("known", [False, True], ids=["never met", "met before"])
@pytest.mark.parametrize("spoiled", ["missing", "a flipped bit"])
@story
async def test_what_is_gone_or_damaged_is_prepared_again(hosted, spoiled, known):
    artifact = published(hosted, FINE, b"theirs")
    async with hosting(hosted) as host:
        if known:
            assert (await host.precheck(FINE)).path == artifact.path
        SPOILED[spoiled](path_of(artifact))
        assert await host.execute(FINE, {}, READ) == b"prepared"
    mended = row(hosted, artifact.id)
    assert (mended["state"], mended["num_failures"]) == ("prepared", 0)
    assert mended["path"] != path_of(artifact).name


# --- failed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES_OF_FAILURE)
@story
async def test_precheck_answers_the_stored_failure_and_never_tries_again(hosted, state):
    make_failed(hosted, FINE, state)
    before = snapshot(hosted)
    async with hosting(hosted) as host:
        with pytest.raises(PreparationFailed, match="it went wrong") as caught:
            await host.precheck(FINE)
        assert caught.value.artifact.id == id_of(FINE)
        assert running_in(hosted) == []
    assert snapshot(hosted) == before


@pytest.mark.parametrize("state", STATES_OF_FAILURE[1:])
@story
async def test_execute_answers_a_failure_that_may_not_be_retried(hosted, state):
    make_failed(hosted, FINE, state)
    before = snapshot(hosted)
    async with hosting(hosted) as host:
        with pytest.raises(PreparationFailed, match="it went wrong") as caught:
            await host.execute(FINE, {}, READ)
        # Only a failure that may pass says nothing about the code.
        assert isinstance(caught.value, NotPrepared) is (state == "may not be retried yet")
        assert caught.value.artifact.num_failures == 1
        await host.heads_up([(FINE, {})])
        await host.stop(drain=True)
        assert running_in(hosted) == []
    assert snapshot(hosted) == before


@story
async def test_execute_and_heads_up_retry_a_failure_that_may_be_retried(hosted):
    for code in (FINE, TIRED, REFUSED):
        make_failed(hosted, code, "may be retried now")
    async with hosting(hosted) as host:
        assert await host.execute(FINE, {}, READ) == b"prepared"
        with pytest.raises(NotPrepared, match="come again"):
            await host.execute(TIRED, {}, READ)
        await host.heads_up([(REFUSED, {})])
        await host.stop(drain=True)
    assert row(hosted, id_of(FINE))["num_failures"] == 0
    tired, refused = row(hosted, id_of(TIRED)), row(hosted, id_of(REFUSED))
    assert (tired["num_failures"], refused["num_failures"]) == (2, 2)
    assert tired["retry_at"] is not None
    assert refused["retry_at"] is None


@story
async def test_precheck_joins_a_retry_that_is_under_way(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        make_failed(hosted, code, "may be retried now")
        retrying = asyncio.create_task(host.execute(code, {}, READ))
        guest = await held.guest()
        checking = asyncio.create_task(host.precheck(code))
        guest.dismiss()
        assert (await checking).state is State.PREPARED
        assert await retrying == b"prepared"


@story
async def test_a_failure_that_may_pass_is_never_the_codes_though_its_retries_are_used_up(hosted):
    sick = wish("raise", error="OSError")
    make_failed(hosted, sick, "may be retried now")
    change(hosted, id_of(sick), num_failures=5)
    async with hosting(hosted) as host:
        for _ in range(2):  # the sixth failure, and the memory of it
            with pytest.raises(NotPrepared, match="the disk is unwell") as caught:
                await host.execute(sick, {}, READ)
            assert caught.value.kind == "io_err"
            assert caught.value.artifact.retry_at is None
            assert caught.value.artifact.num_failures == 6
