"""A bound on what a host queues: beyond it a request is refused at once, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from host.hosting import hosting, id_of, published, until
from host.stories import meeting, story, wish
from support.tables import rows

from registry import AsyncRegistry, InvalidSetting, QueueFull, Registry, RegistryError
from registry.host import Host

FINE = wish("answer")
READ = {"do": "read"}


@story
async def test_executions_beyond_the_bound_are_refused_and_the_others_answered(hosted):
    published(hosted, FINE)
    async with meeting() as held, hosting(hosted, execute_workers=1, max_waiting=2) as host:
        request = {"do": "fork and meet", "at": held.at}
        first = asyncio.create_task(host.execute(FINE, {}, request))
        guest = await held.guest()
        waiting = [asyncio.create_task(host.execute(FINE, {}, READ)) for _ in range(7)]
        refused = await asyncio.gather(*waiting[2:], return_exceptions=True)
        assert [type(error) for error in refused] == [QueueFull] * 5
        assert "max_waiting=2" in str(refused[0])
        assert isinstance(refused[0], RegistryError)
        guest.dismiss()
        await first
        assert await asyncio.gather(*waiting[:2]) == [b"prepared"] * 2
        assert await host.execute(FINE, {}, READ) == b"prepared"  # there is room again


@story
async def test_what_is_refused_claims_nothing(hosted):
    async with meeting() as held, hosting(hosted, execute_workers=1, max_waiting=1) as host:
        codes = [wish("meet", at=held.at, number=number) for number in range(4)]
        asking = [asyncio.create_task(host.precheck(code)) for code in codes]
        guest = await held.guest()
        for refusing in asking[2:]:
            with pytest.raises(QueueFull):
                await refusing
        known = {id_of(code).code_hash for code in codes[:2]}
        await until(lambda: len(rows(hosted)) == 2)
        with Registry(hosted) as other:
            assert {artifact.id.code_hash for artifact in other.artifacts()} == known
        guest.dismiss()
        (await held.guest()).dismiss()
        assert {artifact.id.code_hash for artifact in await asyncio.gather(*asking[:2])} == known


@story
async def test_preparations_that_nobody_waits_for_count_too(hosted):
    async with meeting() as held, hosting(hosted, execute_workers=1, max_waiting=1) as host:
        codes = [wish("meet", at=held.at, number=number) for number in range(3)]
        with pytest.raises(QueueFull, match="2 preparations"):
            await host.heads_up([(code, {}) for code in codes])
        with pytest.raises(QueueFull):
            await host.precheck(codes[2])
        joined = asyncio.create_task(host.precheck(codes[0]))  # to join one takes no room
        for _ in range(2):
            (await held.guest()).dismiss()
        assert (await joined).id == id_of(codes[0])


@story
async def test_cancelled_requests_give_their_room_back(hosted):
    published(hosted, FINE)
    async with meeting() as held, hosting(hosted, execute_workers=1, max_waiting=0) as host:
        request = {"do": "fork and meet", "at": held.at}
        running = asyncio.create_task(host.execute(FINE, {}, request))
        await held.guest()
        with pytest.raises(QueueFull):
            await host.execute(FINE, {}, READ)
        running.cancel()
        await asyncio.wait([running])
        assert await host.execute(FINE, {}, READ) == b"prepared"


@story
async def test_a_bound_is_a_number_or_none(hosted):
    async with AsyncRegistry(hosted) as registry:
        with pytest.raises(InvalidSetting, match="max_waiting is -1"):
            Host(registry, "host.backends.rogue", max_waiting=-1)
        with pytest.raises(TypeError, match="max_waiting"):
            Host(registry, "host.backends.rogue", max_waiting=1.5)
