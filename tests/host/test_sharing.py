"""Many ask, in one process and in several; some go away, some die: each code is prepared once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from host.hosting import hosting, id_of, process, published, until
from host.stories import ECHO, await_the_end_of, meeting, running_in, story, wish
from support.making import claimed
from support.tables import change, files, row
from support.threads import waiters

from registry import AsyncRegistry, Registry, State
from registry.aio import host_calls
from registry.host import ExecutionKind, Host, Priority, Shares
from registry.host.pool import preparations

FINE = wish("answer")
READ = {"do": "read"}
MANY = 100


@story
async def test_a_hundred_executions_of_fresh_code_are_one_preparation(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        asking = [
            asyncio.create_task(host.execute(code, {}, {"do": "answer", "with": number}))
            for number in range(MANY)
        ]
        guest = await held.guest()
        guest.dismiss()
        assert await asyncio.gather(*asking) == list(range(MANY))
        assert held.empty()


ASKER = """
import asyncio, logging, sys
from host.hosting import hosting
from pathlib import Path

class Joined(logging.Handler):
    def emit(self, record):
        if str(record.msg).startswith("waiting for"):
            print("joined", flush=True)

logging.getLogger("registry").setLevel(logging.INFO)
logging.getLogger("registry").addHandler(Joined())

async def main(cache, code):
    async with hosting(Path(cache)) as host:
        requests = [{"do": "answer", "with": number} for number in range(20)]
        asking = [host.execute(code.encode(), {}, request) for request in requests]
        assert await asyncio.gather(*asking) == list(range(20))
    print("answered", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@story
async def test_executions_in_two_processes_are_one_preparation(hosted):
    async with meeting() as held:
        code = wish("meet", at=held.at)
        arguments = (ASKER, hosted, code.decode())
        async with process(*arguments) as one, process(*arguments) as other:
            guest = await held.guest()
            heard = [asyncio.create_task(each.stdout.readline()) for each in (one, other)]
            done, _ = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
            assert [line.result() for line in done] == [b"joined\n"]
            guest.dismiss()
            await asyncio.gather(*heard)
            assert (await one.stdout.read() + await other.stdout.read()).endswith(b"answered\n")
            assert (await one.wait(), await other.wait()) == (0, 0)
        assert held.empty()


HOLDER = """
import sys
from registry import ArtifactId, Registry

with Registry(sys.argv[1]) as registry:
    claim = registry.claim(ArtifactId.parse(sys.argv[2]))
    print("claimed", flush=True)
    if sys.stdin.readline() == "publish\\n":
        claim.publish(b"theirs")
"""


@pytest.mark.parametrize("end", ["publishes", "dies"])
@story
async def test_what_another_process_prepares_is_joined_and_taken_over_when_it_dies(hosted, end):
    async with process(HOLDER, hosted, id_of(FINE)) as holder, hosting(hosted) as host:
        assert await holder.stdout.readline() == b"claimed\n"
        with waiters() as waiting:
            executing = asyncio.create_task(host.execute(FINE, {}, READ))
            checking = asyncio.create_task(host.precheck(FINE))
            await asyncio.to_thread(waiting.await_, 1)
        if end == "publishes":
            holder.stdin.write(b"publish\n")
        else:
            holder.kill()
        assert await executing == (b"theirs" if end == "publishes" else b"prepared")
        assert (await checking).state is State.PREPARED


@story
async def test_a_requester_that_goes_away_takes_nothing_from_the_others(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        gone = [asyncio.create_task(host.precheck(code)) for _ in range(2)]
        staying = asyncio.create_task(host.execute(code, {}, READ))
        guest = await held.guest()
        for one in gone:
            one.cancel()
        await asyncio.wait(gone)
        guest.dismiss()
        assert await staying == b"prepared"
        assert all(one.cancelled() for one in gone)


@story
async def test_an_execution_whose_requester_went_away_is_not_begun_but_its_code_is_prepared(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        parked = asyncio.create_task(host.execute(code, {}, {"do": "meet", "at": held.at}))
        guest = await held.guest()
        parked.cancel()
        await asyncio.wait([parked])
        guest.dismiss()
        await host.stop(drain=True)
        assert held.empty()
        assert row(hosted, id_of(code))["state"] == "prepared"


@story
async def test_an_execution_whose_requester_goes_away_is_killed(hosted):
    async with meeting() as held, hosting(hosted) as host:
        running = asyncio.create_task(host.execute(FINE, {}, {"do": "meet", "at": held.at}))
        guest = await held.guest()
        running.cancel()
        await asyncio.wait([running])
        await asyncio.to_thread(await_the_end_of, [guest.pid])
        assert await host.execute(FINE, {}, READ) == b"prepared"


@story
async def test_a_claim_is_extended_for_as_long_as_its_job_waits(hosted, monkeypatch):
    monkeypatch.setattr(preparations, "ROOM", timedelta(0))
    limit = timedelta(seconds=0.25)
    extended = asyncio.Queue()

    extend = host_calls.extend_lease

    async def extend_and_tell(registry, lease, timeout):
        await extend(registry, lease, timeout)
        extended.put_nowait(lease.id)

    monkeypatch.setattr(host_calls, "extend_lease", extend_and_tell)
    async with meeting() as held, hosting(hosted, precheck_timeout=limit) as host:
        first, second = (wish("meet", at=held.at, number=number) for number in range(2))
        holding = asyncio.create_task(host.execute(first, {}, READ))
        guest = await held.guest()
        queued = asyncio.create_task(host.precheck(second))
        for _ in range(3):
            assert await extended.get() == id_of(second)
        claim = row(hosted, id_of(second))
        # Held for a second, and extended three times after a third of one.
        assert claim["deadline"] - claim["claimed_at"] >= 2_000_000 - 1000
        guest.dismiss()
        (await held.guest()).dismiss()
        assert await holding == b"prepared"
        assert (await queued).state is State.PREPARED


@story
async def test_a_claim_that_was_lost_yields_to_who_took_it_over(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        checking = asyncio.create_task(host.precheck(code))
        guest = await held.guest()
        with Registry(hosted) as other:
            change(hosted, id_of(code), deadline=0)
            published_meanwhile = claimed(other, id_of(code)).publish(b"theirs")
        guest.dismiss()
        assert (await checking).path == published_meanwhile.path
    assert list(files(hosted)) == [published_meanwhile.path.name]


@story
async def test_critical_code_overtakes_all_that_waits(hosted):
    async with meeting() as held, hosting(hosted) as host:
        busy, slow, urgent = (wish("meet", at=held.at, number=number) for number in range(3))
        asking = [asyncio.create_task(host.execute(busy, {}, READ))]
        guest = await held.guest()
        asking.append(asyncio.create_task(host.execute(slow, {}, READ)))
        await until(lambda: len(host._pool._wanted) == 2)
        critical = host.execute(urgent, {}, READ, priority=Priority.CRITICAL)
        asking.append(asyncio.create_task(critical))
        await until(lambda: len(host._pool._wanted) == 3)
        for _ in range(2):
            guest.dismiss()
            guest = await held.guest()
        # Whoever meets us now is the slow one, if the urgent one has been, and is published.
        await until(lambda: row(hosted, id_of(urgent))["state"] == "prepared")
        assert row(hosted, id_of(slow))["state"] == "preparing"
        guest.dismiss()
        assert await asyncio.gather(*asking) == [b"prepared"] * 3


@story
async def test_executions_are_picked_by_the_policy_of_the_host(hosted):
    ended = []
    published(hosted, FINE)
    async with (
        meeting() as held,
        hosting(hosted, policy=Shares(), execute_workers=1) as host,
    ):

        def ask(kind: ExecutionKind, request: dict) -> asyncio.Task:
            asked = asyncio.create_task(host.execute(FINE, {}, request, kind=kind))
            asked.add_done_callback(lambda _: ended.append(kind))
            return asked

        busy = host.execute(FINE, {}, {"do": "meet", "at": held.at}, kind=ExecutionKind.BACKING)
        asking = [asyncio.create_task(busy)]
        guest = await held.guest()
        for kind in reversed(ExecutionKind):
            asking.append(ask(kind, READ))
            await until(lambda: len(host._executions._crew._jobs) == len(asking))
        guest.dismiss()
        await asyncio.gather(*asking)
        assert ended[:2] == [ExecutionKind.DISPUTE, ExecutionKind.APPROVAL]


@story
async def test_two_hosts_on_one_handle_keep_their_work_apart(hosted):
    async with (
        AsyncRegistry(hosted) as registry,
        Host(registry, "host.backends.rogue") as rogue,
        Host(registry, ECHO) as echo,
        meeting() as held,
    ):
        code = wish("meet", at=held.at)
        one = asyncio.create_task(rogue.execute(code, {}, READ))
        guest = await held.guest()
        assert await echo.execute(b"code", {}, 1) == [b"code[]", 1]
        guest.dismiss()
        assert await one == b"prepared"
        folders = {path.parent.parent for path in hosted.glob("workers/*/*/prepare/1")}
        assert len(folders) == 2
        await echo.stop()
        assert await rogue.execute(code, {}, READ) == b"prepared"
        assert running_in(hosted)
