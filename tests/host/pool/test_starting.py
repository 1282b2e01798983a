"""Workers that do not start, or start slowly: the host says so, and keeps nobody waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from host.hosting import hosting, id_of, published, until
from host.stories import AMPLE, meeting, story, wish
from support.making import failed
from support.tables import connected, rows

from registry import (
    AsyncRegistry,
    InternalError,
    InvalidSetting,
    NotPrepared,
    Registry,
    State,
)
from registry.host import Host
from registry.host.pool import workers

FINE = wish("answer")
READ = {"do": "read"}
BROKEN = "echo out of order >&2; exit 127"
WORKING = f'exec {sys.executable} "$@"'
STUCK = "exec sleep 600"


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch) -> Path:
    """What starts the workers, in place of the interpreter."""
    path = tmp_path / "python"
    write(path, WORKING)
    monkeypatch.setattr(sys, "executable", str(path))
    monkeypatch.setattr(workers, "RETRY_DELAY", 0.05)
    return path


def write(path: Path, script: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{script}\n")
    new.chmod(0o755)
    new.rename(path)


@pytest.mark.parametrize("script", [BROKEN, STUCK], ids=["broken", "stuck"])
@story
async def test_a_host_whose_workers_do_not_start_says_so_and_claims_nothing(
    hosted, launcher, script
):
    write(launcher, script)
    async with hosting(hosted, start_timeout=timedelta(seconds=0.5)) as host:
        for asking in (host.precheck(FINE), host.execute(FINE, {}, READ)):
            asked = asyncio.create_task(asking)
            with Registry(hosted) as other:
                while not asked.done():
                    assert rows(hosted) == [], "a claim would keep the others from it"
                    assert other.get(id_of(FINE)) is None
                    await asyncio.sleep(0.01)
            with pytest.raises(NotPrepared, match="no worker could be started") as caught:
                await asked
            assert caught.value.kind == "worker_not_started"
        with Registry(hosted) as other:
            made = other.get_or_prepare(id_of(FINE), lambda: b"prepared")
            assert made.state is State.PREPARED
        with pytest.raises(InternalError, match="no worker could be started") as caught:
            await host.execute(FINE, {}, READ)
        assert caught.value.kind == "worker_not_started"
        write(launcher, WORKING)
        assert await host.execute(FINE, {}, READ) == b"prepared"


@story
async def test_a_failure_of_before_the_clock_was_set_back_is_claimed_only_for_a_worker(
    hosted, launcher
):
    with Registry(hosted) as other:
        failed(other, id_of(FINE))
    hour = 3_600_000_000
    with connected(hosted) as database:
        database.execute(
            f"UPDATE artifact SET last_time_failed = last_time_failed + {hour}, "
            f"retry_at = retry_at + {hour}"
        )
        database.commit()
    write(launcher, BROKEN)
    async with hosting(hosted) as host:
        asked = asyncio.create_task(host.execute(FINE, {}, READ))
        while not asked.done():
            assert [row["state"] for row in rows(hosted)] == ["failed"], "it is claimed by nobody"
            await asyncio.sleep(0.01)
        with pytest.raises(NotPrepared, match="no worker could be started"):
            await asked
        write(launcher, WORKING)
        assert await host.execute(FINE, {}, READ) == b"prepared"


@story
async def test_a_claim_whose_worker_is_gone_and_cannot_be_replaced_is_released(hosted, launcher):
    async with meeting() as held, hosting(hosted) as host:
        first, second = wish("meet", at=held.at), wish("answer", nonce=1)
        asking = asyncio.create_task(host.precheck(first))
        guest = await held.guest()
        waiting = asyncio.create_task(host.precheck(second))
        await until(lambda: len(rows(hosted)) == 2)
        write(launcher, BROKEN)
        os.kill(guest.worker, signal.SIGKILL)
        for asked in (asking, waiting):
            with pytest.raises(NotPrepared):
                await asked
        assert rows(hosted) == []


@story
async def test_workers_that_start_slowly_are_waited_for(hosted, launcher):
    write(launcher, f"sleep 4\n{WORKING}")
    async with hosting(hosted) as host:
        assert await host.execute(FINE, {}, READ, timeout=AMPLE) == b"prepared"
        assert host.metrics.prepare.spawning == 1


@story
async def test_one_pool_without_workers_does_not_stop_what_is_prepared_elsewhere(hosted, launcher):
    write(launcher, BROKEN)
    published(hosted, FINE)
    async with hosting(hosted) as host:
        assert (await host.precheck(FINE)).state is State.PREPARED


@story
async def test_a_start_timeout_of_nothing_is_refused(hosted):
    async with AsyncRegistry(hosted) as registry:
        with pytest.raises(InvalidSetting, match="start_timeout"):
            Host(registry, "host.backends.rogue", start_timeout=timedelta(0))
        with pytest.raises(TypeError, match="start_timeout"):
            Host(registry, "host.backends.rogue", start_timeout=3)
