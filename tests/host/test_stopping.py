"""How a host ends: drained, stopped, killed; and what it does meanwhile to keep the cache clean."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta

import pytest
from host.hosting import hosting, id_of, process, published, until
from host.stories import await_the_end_of, meeting, running_in, story, wish
from support.making import failed
from support.tables import change, files, row, rows, snapshot

from registry import (
    AsyncRegistry,
    CleanupConfig,
    HandleClosed,
    HandleForked,
    Registry,
    RegistryBusy,
)
from registry.host import Host

FINE = wish("answer")
READ = {"do": "read"}


@story
async def test_stopping_answers_all_and_releases_the_claims_without_a_failure(hosted):
    async with meeting() as held, hosting(hosted) as host:
        fresh, failed_before, queued = (
            wish("meet", at=held.at, number=number) for number in range(3)
        )
        with Registry(hosted) as other:
            failed(other, id_of(failed_before))
        change(hosted, id_of(failed_before), retry_at=1)
        before = row(hosted, id_of(failed_before))
        asking = [asyncio.create_task(host.execute(failed_before, {}, READ))]
        await held.guest()
        asking += [
            asyncio.create_task(host.precheck(fresh)),
            asyncio.create_task(host.precheck(fresh)),
            asyncio.create_task(host.execute(queued, {}, READ)),
        ]
        await until(lambda: len(rows(hosted)) == 3)
        await host.stop()
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(end) for end in ends] == [HandleClosed] * 4
        assert rows(hosted) == [before]
        assert running_in(hosted) == []


@story
async def test_stopping_ends_what_is_executed_and_what_waits_for_it(hosted):
    published(hosted, FINE)
    async with meeting() as held, hosting(hosted, execute_workers=1) as host:
        request = {"do": "fork and meet", "at": held.at}
        asking = [asyncio.create_task(host.execute(FINE, {}, request)) for _ in range(3)]
        await held.guest()
        await host.stop()
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(end) for end in ends] == [HandleClosed] * 3
        assert running_in(hosted) == []


@story
async def test_draining_answers_all_that_was_asked_for(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        asking = [asyncio.create_task(host.execute(code, {}, READ)) for _ in range(3)]
        await host.heads_up([(FINE, {})])
        guest = await held.guest()
        stopping = asyncio.create_task(host.stop(drain=True))
        await asyncio.sleep(0)
        with pytest.raises(HandleClosed):
            await host.precheck(FINE)
        guest.dismiss()
        assert await asyncio.gather(*asking) == [b"prepared"] * 3
        await stopping
        assert running_in(hosted) == []
    assert [found["state"] for found in rows(hosted)] == ["prepared"] * 2


@story
async def test_draining_that_is_given_up_stops_all_the_same(hosted):
    async with meeting() as held, hosting(hosted) as host:
        asking = asyncio.create_task(host.precheck(wish("meet", at=held.at)))
        await held.guest()
        stopping = asyncio.create_task(host.stop(drain=True))
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(HandleClosed):
            await asking
        with pytest.raises(asyncio.CancelledError):
            await stopping
    assert rows(hosted) == []


@story
async def test_a_stopped_host_answers_nothing_and_may_be_stopped_again(hosted):
    published(hosted, FINE)
    async with hosting(hosted) as host:
        await host.stop()
        before = snapshot(hosted)
        for asking in (host.precheck(FINE), host.heads_up([]), host.execute(FINE, {}, READ)):
            with pytest.raises(HandleClosed, match="start a new one"):
                await asking
        await host.stop(drain=True)
        assert snapshot(hosted) == before


@story
async def test_a_host_is_stopped_when_its_task_is_cancelled(hosted):
    async with meeting() as held:

        async def work():
            async with hosting(hosted) as host:
                await host.execute(wish("meet", at=held.at), {}, READ)

        working = asyncio.create_task(work())
        await held.guest()
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled()
        assert rows(hosted) == []
        assert running_in(hosted) == []


DOOMED = """
import asyncio, sys
from pathlib import Path
from host.hosting import hosting
from host.stories import wish

async def main(cache, at):
    async with hosting(Path(cache)) as host:
        request = {"do": "fork and meet", "at": at}
        await asyncio.gather(
            host.execute(wish("answer"), {}, request), host.precheck(wish("fork and meet", at=at))
        )

asyncio.run(main(*sys.argv[1:]))
"""


@story
async def test_a_killed_host_leaves_no_worker_and_its_claim_and_folder_to_the_next(hosted):
    async with meeting() as held:
        code = wish("fork and meet", at=held.at)
        async with process(DOOMED, hosted, held.at) as doomed:
            guests = [await held.guest() for _ in range(2)]
            started = running_in(hosted)
            assert {guest.pid for guest in guests} < set(started)
            doomed.kill()
            await doomed.wait()
        await asyncio.to_thread(await_the_end_of, started)
        async with hosting(hosted) as host:
            assert row(hosted, id_of(code))["error_kind"] == "host_died"
            checking = asyncio.create_task(host.execute(code, {}, READ))
            (await held.guest()).dismiss()
            assert await checking == b"prepared"


@story
async def test_the_cleanup_pulse_prunes_and_goes_on_when_it_could_not(hosted, caplog):
    class Busy(AsyncRegistry):
        times = 0

        async def prune(self, **options):
            self.times += 1
            if self.times == 1:
                raise RegistryBusy("the database is locked")
            return await super().prune(**options)

    published(hosted, FINE)
    small = CleanupConfig(cache_limit=0, min_stale_time=timedelta(0))
    async with (
        Busy(hosted, cleanup=small) as registry,
        Host(registry, "host.backends.rogue", cleanup_interval=timedelta(milliseconds=20)),
    ):
        with caplog.at_level(logging.WARNING, "registry"):
            await until(lambda: not rows(hosted) and not files(hosted))
    assert "the database is locked" in caplog.text


@story
async def test_the_child_of_a_fork_neither_uses_nor_stops_its_parents_host(hosted):
    """Its workers would be killed by a process whose they are not."""
    async with hosting(hosted) as host:
        child = os.fork()
        if child == 0:
            refusals = 0
            for coroutine in (host.stop(), host.precheck(b"code"), host.heads_up([])):
                try:
                    coroutine.send(None)
                except HandleForked:
                    refusals += 1
                except BaseException:
                    os._exit(2)
            os._exit(0 if refusals == 3 else 1)
        assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
