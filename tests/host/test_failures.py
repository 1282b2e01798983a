"""How a host fails: whose fault it is, what is remembered, and that the next request works."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from datetime import timedelta

import pytest
from host.backends import deaf
from host.hosting import hosting, id_of, published
from host.stories import ECHO, meeting, story, wish
from support.tables import files, row, rows, snapshot

from registry import (
    AsyncRegistry,
    CodeTooLarge,
    ExecutionError,
    InternalError,
    InvalidCandidate,
    InvalidData,
    InvalidId,
    InvalidParams,
    InvalidSetting,
    NotPrepared,
    PossiblyInvalid,
    PreparationFailed,
    Registry,
)
from registry.aio import host_calls
from registry.host import Host, Shares

FINE = wish("answer")
READ = {"do": "read"}
VERIFY = {"do": "verify"}
MEMORY = 256 * 1024**2
# CPU time; on a busy machine what ends by itself must have done so in four times as much.
SHORT = timedelta(seconds=1.5)

# --- preparing ----------------------------------------------------------------------------------

# The code, the kind that is recorded, and whether it may be tried again.
FAILURES = {
    "raises": (wish("raise", error="ValueError"), "job_error", False),
    "refuses the code": (wish("raise", error="Prevalidation"), "prevalidation", False),
    "fails in its own words": (wish("raise", error="Transient"), "tired", True),
    "meets a sick disk": (wish("raise", error="OSError"), "io_err", True),
    "says what nobody can": (wish("raise", error="Surrogate"), "job_error", False),
    "ends its process": (wish("leave", status=7), "job_died", True),
    "crashes": (wish("crash"), "job_died", True),
    "is no code at all": (b"\0", "job_error", False),
}


@pytest.mark.parametrize("verb", ["precheck", "execute"])
@story
async def test_each_failure_of_a_preparation_is_recorded_with_its_kind(hosted, verb):
    limits = {"precheck_timeout": SHORT, "prepare_timeout": SHORT, "memory_limit": MEMORY}
    async with hosting(hosted, prepare_workers=2, **limits) as host:

        async def ask(code: bytes) -> BaseException | None:
            asked = host.precheck(code) if verb == "precheck" else host.execute(code, {}, READ)
            (end,) = await asyncio.gather(asked, return_exceptions=True)
            return end

        ends = await asyncio.gather(*(ask(code) for code, _, _ in FAILURES.values()))
        for (what, (code, kind, passes)), end in zip(FAILURES.items(), ends, strict=True):
            recorded = row(hosted, id_of(code))
            found = (recorded["state"], recorded["error_kind"], recorded["retry_at"] is not None)
            assert found == ("failed", kind, passes), what
            assert recorded["num_failures"] == 1
            assert isinstance(end, PreparationFailed), what
            assert isinstance(end, NotPrepared) is (verb == "execute" and passes), what
            assert recorded["error"] in str(end)
        assert (await host.precheck(FINE)).error is None


# What says nothing about the code, but about this host: its limits, its machine, its workers.
OF_THE_HOST = {
    "allocates for ever": (wish("allocate"), "out_of_memory"),
    "raises MemoryError": (wish("raise", error="MemoryError"), "out_of_memory"),
    "is refused memory": (wish("abort for want of memory"), "out_of_memory"),
    "loops for ever": (wish("loop"), "timed_out"),
    "sleeps": (wish("sleep"), "timed_out"),
    "kills its worker": (wish("signal worker", signal=9), "io_err"),
    "is killed": (wish("signal self", signal=9), "job_died"),
    "is terminated": (wish("signal self", signal=15), "job_died"),
    "is interrupted": (wish("signal self", signal=2), "job_died"),
    "is hung up": (wish("signal self", signal=1), "job_died"),
    "cannot be cleared up after": (wish("remove the folder"), "clear_worker_dir"),
    "has no thread": (wish("raise", error="NoThread"), "io_err"),
    "has no process": (wish("raise", error="EAGAIN"), "io_err"),
    "has no descriptor": (wish("raise", error="EMFILE"), "io_err"),
    "has no room": (wish("raise", error="ENOSPC"), "io_err"),
    "has no quota": (wish("raise", error="EDQUOT"), "io_err"),
    "has no right": (wish("raise", error="EACCES"), "io_err"),
    "dies of having no thread": (wish("abort saying", words="can't start new thread"), "job_died"),
    "dies of having no process": (
        wish("abort saying", words="Os { code: 11, message: Resource temporarily unavailable }"),
        "job_died",
    ),
    "has a bug": (wish("raise", error="NameError"), "job_error"),
    "says so itself": (wish("raise", error="Unremembered"), "unlicensed"),
}


@pytest.mark.parametrize("verb", ["precheck", "execute"])
@story
async def test_what_is_the_hosts_own_failure_is_not_remembered(hosted, verb):
    limits = {"precheck_timeout": SHORT, "prepare_timeout": SHORT, "memory_limit": MEMORY}
    async with hosting(hosted, prepare_workers=2, **limits) as host:

        async def ask(code: bytes) -> BaseException | None:
            asked = host.precheck(code) if verb == "precheck" else host.execute(code, {}, READ)
            (end,) = await asyncio.gather(asked, return_exceptions=True)
            return end

        ends = await asyncio.gather(*(ask(code) for code, _ in OF_THE_HOST.values()))
        for (what, (_, kind)), end in zip(OF_THE_HOST.items(), ends, strict=True):
            assert isinstance(end, NotPrepared), (what, end)
            assert (end.kind, end.artifact.error_kind) == (kind, kind), what
            assert "not remembered" in str(end)
        assert rows(hosted) == []
        assert (await host.precheck(FINE)).error is None
    with Registry(hosted) as registry:
        assert registry.check().ok


@story
async def test_a_hosts_limits_decide_for_no_other_host(hosted):
    code = wish("burn", seconds=1.0)
    tight = {"prepare_timeout": timedelta(seconds=0.3)}
    async with hosting(hosted, **tight) as strict, hosting(hosted) as patient:
        for _ in range(8):  # more often than a failure may be tried again
            with pytest.raises(NotPrepared, match="CPU time"):
                await strict.execute(code, {}, READ)
        assert strict.metrics.prepare.enqueued == 1, "it would only be the same again"
        assert await patient.execute(code, {}, READ) == b"prepared"
        assert await strict.execute(code, {}, READ) == b"prepared"


@story
async def test_longer_limits_of_the_same_host_try_again(hosted):
    code = wish("burn", seconds=1.0)
    async with hosting(hosted, precheck_timeout=timedelta(seconds=0.3)) as host:
        with pytest.raises(NotPrepared, match="CPU time"):
            await host.precheck(code)
        assert await host.execute(code, {}, READ) == b"prepared"


@story
async def test_a_job_killed_from_outside_is_tried_again_at_the_next_request(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        for signum in (signal.SIGKILL, signal.SIGTERM):
            asking = asyncio.create_task(host.precheck(code))
            os.kill((await held.guest()).pid, signum)
            with pytest.raises(NotPrepared, match=signum.name):
                await asking
            assert rows(hosted) == []
        asking = asyncio.create_task(host.precheck(code))
        os.kill((await held.guest()).worker, signal.SIGKILL)
        with pytest.raises(NotPrepared, match="died"):
            await asking
        asking = asyncio.create_task(host.precheck(code))
        (await held.guest()).dismiss()
        assert (await asking).error is None


@pytest.mark.parametrize("backend", ["host.backends.rogue", ECHO])
@story
async def test_code_over_the_limit_is_refused_before_any_claim(hosted, backend, caplog):
    code = FINE + b" " * 100
    async with hosting(hosted, backend, code_limit=100) as host:
        for asking in (host.precheck(code), host.execute(code, {}, READ)):
            with pytest.raises(CodeTooLarge, match="100"):
                await asking
        with caplog.at_level(logging.WARNING, "registry"):
            await host.heads_up([(code, {}), (FINE, {})])
            await host.stop(drain=True)
    assert "100 is the limit" in caplog.text
    assert [found["code_hash"] for found in rows(hosted)] == [id_of(FINE, backend).code_hash]


@story
async def test_code_that_the_backend_finds_too_large_is_not_remembered(hosted):
    code = wish("raise", error="CodeTooLarge")
    async with hosting(hosted) as host:
        for _ in range(2):
            with pytest.raises(CodeTooLarge, match="more than I can take"):
                await host.precheck(code)
    assert rows(hosted) == []


@story
async def test_large_code_that_is_prepared_already_is_executed(hosted):
    published(hosted, FINE)
    async with hosting(hosted, code_limit=1) as host:
        assert await host.execute(FINE, {}, READ) == b"prepared"


# --- what is asked for --------------------------------------------------------------------------


@story
async def test_what_cannot_be_asked_for_is_refused_before_anything_is_claimed(hosted):
    async with hosting(hosted) as host:
        for request, error in (({1, 2}, TypeError), (object(), TypeError), (2**70, InvalidData)):
            with pytest.raises(error, match="request"):
                await host.execute(FINE, {}, request)
        for code, error in (("text", TypeError), (bytearray(FINE), TypeError), (b"", InvalidId)):
            with pytest.raises(error, match="code is"):
                await host.precheck(code)
        for params in (None, [("a", 1)], "a"):
            with pytest.raises(TypeError, match="params is a Mapping, not"):
                await host.precheck(FINE, params)
        for params in ({"a": 1j}, {1: 2}, {"a": {1}}):
            with pytest.raises(InvalidParams):
                await host.precheck(FINE, params)
        with pytest.raises(InvalidSetting, match="timeout is 0:00:00"):
            await host.execute(FINE, {}, READ, timeout=timedelta(0))
        with pytest.raises(TypeError, match=r"timeout is a datetime\.timedelta, not int"):
            await host.execute(FINE, {}, READ, timeout=5)
        for wrong in ({"priority": "critical"}, {"kind": "approval"}):
            with pytest.raises(TypeError, match=f"{next(iter(wrong))} is an? .*, not str"):
                await host.execute(FINE, {}, READ, **wrong)
        with pytest.raises(TypeError, match="label"):
            await host.precheck(FINE, label=5)
        assert rows(hosted) == []
        a_year = timedelta(days=365)
        assert await host.execute(FINE, {}, READ, timeout=a_year) == b"prepared"


@story
async def test_parameters_that_no_worker_can_be_told_are_not_held_against_the_code(hosted):
    async with AsyncRegistry(hosted) as registry, Host(registry, deaf) as host:
        with pytest.raises(InvalidParams, match="cannot be told"):
            await host.precheck(b"code", {"since": SHORT})
        assert rows(hosted) == []
        assert (await host.precheck(b"code", {"since": 1.5})).error is None
        assert await host.execute(b"code", {}, "again") == "again"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"precheck_timeout": timedelta(0)}, InvalidSetting),
        ({"prepare_timeout": 60}, TypeError),
        ({"prepare_timeout": timedelta(days=366)}, InvalidSetting),
        ({"memory_limit": 0}, InvalidSetting),
        ({"memory_limit": "1 GiB"}, TypeError),
        ({"code_limit": -1}, InvalidSetting),
        ({"cleanup_interval": timedelta(0)}, InvalidSetting),
        ({"prepare_workers": 0}, InvalidSetting),
        ({"execute_workers": 0}, InvalidSetting),
        ({"prepare_workers": 1.5}, TypeError),
        ({"prepare_workers_hard": True}, TypeError),
        ({"execute_workers": "2"}, TypeError),
        ({"policy": Shares}, TypeError),
        ({"policy": "fifo"}, TypeError),
        ({"confinement": True}, TypeError),
    ],
)
@story
async def test_a_host_that_could_not_work_is_refused(hosted, options, error):
    async with AsyncRegistry(hosted) as registry:
        with pytest.raises(error, match=next(iter(options)).replace("_workers", ".workers")):
            Host(registry, deaf, **options)


@story
async def test_a_host_of_anything_but_an_async_handle_is_refused(hosted):
    with Registry(hosted) as registry:
        for wrong in (registry, hosted, None):
            with pytest.raises(TypeError, match="registry is an AsyncRegistry, not"):
                Host(wrong, deaf)


@story
async def test_a_backend_that_cannot_be_loaded_is_refused(hosted):
    async with AsyncRegistry(hosted) as registry:
        with pytest.raises(ModuleNotFoundError):
            Host(registry, "host.backends.missing")
        with pytest.raises(TypeError, match="no function identity"):
            Host(registry, "host.backends.incomplete")


# --- executing ----------------------------------------------------------------------------------

ENDS = {
    "says no": ({"do": "raise", "error": "InvalidCandidate"}, InvalidCandidate, "rejected"),
    "loops for ever": ({"do": "loop"}, InvalidCandidate, "timed_out"),
    "raises": ({"do": "raise", "error": "ValueError"}, PossiblyInvalid, "job_error"),
    "allocates for ever": ({"do": "allocate"}, PossiblyInvalid, "out_of_memory"),
    "ends its process": ({"do": "leave"}, PossiblyInvalid, "job_died"),
    "kills its worker": ({"do": "signal worker", "signal": 9}, PossiblyInvalid, "worker_died"),
    "answers what cannot be said": ({"do": "answer a set"}, PossiblyInvalid, "job_error"),
    "blames itself": ({"do": "raise", "error": "InternalError"}, InternalError, "mine"),
}


@story
async def test_each_end_of_an_execution_has_its_fault_and_changes_nothing(hosted):
    published(hosted, FINE)
    before = snapshot(hosted)[0][0]
    async with hosting(hosted, memory_limit=MEMORY) as host:
        for what, (request, error, kind) in ENDS.items():
            with pytest.raises(ExecutionError) as caught:
                await host.execute(FINE, {}, request, timeout=SHORT)
            assert (type(caught.value), caught.value.kind) == (error, kind), what
            assert await host.execute(FINE, {}, READ) == b"prepared"
    after = row(hosted, id_of(FINE))
    assert {**after, "last_time_needed": None} == {**before, "last_time_needed": None}


@story
async def test_an_artifact_that_the_backend_finds_corrupted_is_prepared_again_once(hosted):
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        rotten = published(hosted, code, b"rotten")
        asking = [asyncio.create_task(host.execute(code, {}, VERIFY)) for _ in range(3)]
        guest = await held.guest()
        assert not rotten.path.exists()
        guest.dismiss()
        assert await asyncio.gather(*asking) == ["verified"] * 3
        assert held.empty()


@story
async def test_an_artifact_that_stays_corrupted_is_removed_before_that_is_said(hosted):
    corrupted = {"do": "raise", "error": "PossiblyInvalid"}
    async with meeting() as held, hosting(hosted) as host:
        code = wish("meet", at=held.at)
        asking = asyncio.create_task(host.execute(code, {}, corrupted))
        for _ in range(2):
            (await held.guest()).dismiss()
        with pytest.raises(PossiblyInvalid) as caught:
            await asking
        assert caught.value.kind == "corrupted_artifact"
        assert held.empty()
    assert rows(hosted) == []
    assert files(hosted) == {}


class Pruned(AsyncRegistry):
    """A cache so small that an artifact goes between its need and its execution."""

    times = 0

    async def need(self, id):
        return self._prune(await super().need(id))

    def _prune(self, artifact):
        if artifact is not None and self.times:
            self.times -= 1
            artifact.path.unlink()
        return artifact


@story
async def test_what_is_pruned_before_it_is_executed_is_prepared_again_a_few_times(
    hosted, monkeypatch
):
    prepare = host_calls.prepare_under_claim

    async def prepare_and_prune(registry, *args, **options):
        return registry._prune(await prepare(registry, *args, **options))

    monkeypatch.setattr(host_calls, "prepare_under_claim", prepare_and_prune)
    async with hosting(hosted, opened=Pruned) as host:
        host._registry.times = 2
        assert await host.execute(FINE, {}, READ) == b"prepared"
        host._registry.times = 3
        with pytest.raises(InternalError, match="went 3 times"):
            await host.execute(FINE, {}, READ)
        assert await host.execute(FINE, {}, READ) == b"prepared"


@story
async def test_a_pruned_file_does_not_disturb_the_job_that_runs(hosted):
    published(hosted, FINE)
    async with meeting() as held, hosting(hosted) as host:
        request = {"do": "meet", "at": held.at, "read": True}
        asking = asyncio.create_task(host.execute(FINE, {}, request))
        guest = await held.guest()
        with Registry(hosted) as other:
            (gone,) = other.prune(cache_limit=0, min_stale_time=timedelta(0))
        assert not gone.path.exists()
        guest.dismiss()
        assert await asking == b"prepared"
