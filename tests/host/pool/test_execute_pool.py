"""Executions by real workers: whose fault a failure is, and what an artifact's file needs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from host.stories import AMPLE, ECHO, ROGUE, await_the_end_of, meeting, running_in, story

from registry.errors import (
    ExecutionError,
    HandleClosed,
    InternalError,
    InvalidCandidate,
    InvalidData,
    PossiblyInvalid,
    UnknownArtifact,
)
from registry.host.pool.execute_pool import ExecutePool
from registry.host.queue.policy import Shares
from registry.host.queue.priority import ExecutionKind

MEMORY = 400 * 1024**2
SHORT = timedelta(seconds=0.4)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "published"
    path.write_bytes(b"native code")
    path.chmod(0o400)
    return path


async def do(pool: ExecutePool, artifact: Path, deed: str, **more):
    limits = {name: more.pop(name) for name in ("cpu_limit", "memory_limit") if name in more}
    request = {"do": deed, **more}
    return (await pool.execute(artifact, request, **{"cpu_limit": AMPLE, **limits})).result


@story
async def test_the_artifact_meets_the_request(workers, artifact):
    async with ExecutePool(ECHO, workers) as pool:
        executed = await pool.execute(artifact, {"a": 1})
        assert executed.result == [b"native code", {"a": 1}]
        assert executed.cpu_seconds > 0
        assert executed.peak_memory > 1024**2


@pytest.mark.parametrize(
    "request_",
    [
        None,
        True,
        -(2**63),
        2**64 - 1,
        0.5,
        "ö\0",
        b"\0\xff",
        [],
        {},
        [[{"k": [None]}]],
        {1: {2: 3}},
    ],
    ids=repr,
)
@story
async def test_whatever_msgpack_can_say_arrives_as_it_was(workers, artifact, request_):
    async with ExecutePool(ECHO, workers) as pool:
        assert (await pool.execute(artifact, request_)).result[1] == request_


class Ours:
    """Nothing that msgpack knows."""


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Ours(), TypeError),
        ({1, 2}, TypeError),
        ({(1, 2): 3}, TypeError),
        (2**64, InvalidData),
        ("\ud800", InvalidData),
    ],
    ids=["object", "set", "tuple as a key", "huge", "surrogate"],
)
@story
async def test_a_request_that_cannot_be_sent_is_refused_before_anything_is(
    workers, artifact, request_, error
):
    async with ExecutePool(ECHO, workers) as pool:
        with pytest.raises(error, match="the request holds"):
            await pool.execute(artifact, request_)
        assert running_in(workers) == []


FAILURES = {
    "the code says no": ("raise", {"error": "InvalidCandidate"}, InvalidCandidate, "rejected"),
    "loops": ("loop", {"cpu_limit": SHORT}, InvalidCandidate, "timed_out"),
    "answers too late": (
        "burn",
        {"seconds": 0.5, "cpu_limit": SHORT},
        InvalidCandidate,
        "timed_out",
    ),
    "sleeps": ("sleep", {"cpu_limit": SHORT}, InvalidCandidate, "timed_out"),
    "stops itself": (
        "signal self",
        {"signal": signal.SIGSTOP, "cpu_limit": SHORT},
        InvalidCandidate,
        "timed_out",
    ),
    "stops its worker": (
        "signal worker",
        {"signal": signal.SIGSTOP, "cpu_limit": SHORT},
        InvalidCandidate,
        "timed_out",
    ),
    "the artifact is damaged": (
        "raise",
        {"error": "PossiblyInvalid"},
        PossiblyInvalid,
        "corrupted_artifact",
    ),
    "raises": ("raise", {"error": "ValueError"}, PossiblyInvalid, "job_error"),
    "raises SystemExit": ("raise", {"error": "SystemExit"}, PossiblyInvalid, "job_error"),
    "meets a sick disk": ("raise", {"error": "OSError"}, PossiblyInvalid, "job_error"),
    "is refused memory": ("raise", {"error": "MemoryError"}, PossiblyInvalid, "out_of_memory"),
    "allocates": ("allocate", {"memory_limit": MEMORY}, PossiblyInvalid, "out_of_memory"),
    "answers a set": ("answer a set", {}, PossiblyInvalid, "job_error"),
    "answers too much": ("answer much", {"bytes": 65 * 1024**2}, PossiblyInvalid, "job_error"),
    "forges a report": ("forge a report", {}, PossiblyInvalid, "job_error"),
    "exits": ("leave", {}, PossiblyInvalid, "job_died"),
    "kills itself": ("signal self", {"signal": signal.SIGKILL}, PossiblyInvalid, "job_died"),
    "crashes": ("crash", {}, PossiblyInvalid, "job_died"),
    "babbles": ("shout at everything", {}, PossiblyInvalid, "job_died"),
    "kills its worker": (
        "signal worker",
        {"signal": signal.SIGKILL},
        PossiblyInvalid,
        "worker_died",
    ),
    "it is our fault": ("raise", {"error": "InternalError"}, InternalError, "mine"),
    "cannot be cleared up after": ("remove the folder", {}, InternalError, "clear_worker_dir"),
}


@pytest.mark.parametrize(("deed", "more", "fault", "kind"), FAILURES.values(), ids=FAILURES.keys())
@story
async def test_each_failure_has_its_fault_and_kind_and_the_next_request_works(
    workers, artifact, deed, more, fault, kind
):
    async with ExecutePool(ROGUE, workers, workers=1) as pool:
        with pytest.raises(ExecutionError) as caught:
            await do(pool, artifact, deed, **more)
        assert (type(caught.value), caught.value.kind) == (fault, kind), str(caught.value)
        assert await do(pool, artifact, "answer", **{"with": 1}) == 1


@story
async def test_a_backend_that_cannot_be_loaded_is_not_the_candidates_fault(workers, artifact):
    async with ExecutePool("host.backends.raises_at_import", workers) as pool:
        with pytest.raises(InternalError, match="RuntimeError: not here") as caught:
            await pool.execute(artifact, None)
        assert caught.value.kind == "runtime_construction"


@story
async def test_output_is_no_answer(workers, artifact):
    async with ExecutePool(ROGUE, workers) as pool:
        assert await do(pool, artifact, "shout") == "said"


@story
async def test_a_large_answer_arrives_whole(workers, artifact):
    async with ExecutePool(ROGUE, workers) as pool:
        assert await do(pool, artifact, "answer much", bytes=20 * 1024**2) == bytes(20 * 1024**2)


@story
async def test_an_answer_that_came_while_our_own_loop_was_busy_is_not_late(workers, artifact):
    async with meeting() as held, ExecutePool(ROGUE, workers) as pool:
        task = asyncio.create_task(
            do(pool, artifact, "meet", at=held.at, read=True, cpu_limit=SHORT)
        )
        guest = await held.guest()
        os.write(guest.writer.get_extra_info("socket").fileno(), b".")
        await_the_end_of([guest.pid])
        time.sleep(4.1 * SHORT.total_seconds())  # noqa: ASYNC251  # a stuck loop is the story
        assert await task == b"native code"


@story
async def test_what_a_job_forks_ends_with_it(workers, artifact):
    async with ExecutePool(ROGUE, workers) as pool:
        assert await do(pool, artifact, "fork") == "forked"
        assert len(running_in(workers)) == 1, "the worker, and nobody else"


@story
async def test_a_job_sees_its_folder_and_nothing_of_the_host(workers, artifact, monkeypatch):
    monkeypatch.setenv("SECRET", "word")
    ours = os.open(artifact, os.O_RDONLY)
    os.set_inheritable(ours, True)
    async with ExecutePool(ROGUE, workers) as pool:
        seen = await do(pool, artifact, "look around")
        os.close(ours)
        scratch = str(workers / "1/scratch")
        environment = seen["environment"]
        assert environment.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # the interpreter's own doing
        assert environment == {"TMPDIR": scratch}
        assert (seen["directory"], seen["temporary"]) == (scratch, scratch)
        opened = {name.partition(":")[0] for name in seen["descriptors"].values()}
        assert opened <= {"/dev/null", "pipe", f"/proc/{seen['self']}/fd"}
        assert seen["input"] == b""
        assert seen["umask"] == 0o077
        assert seen["session"] == seen["worker"] != os.getsid(0)


@story
async def test_a_worker_imports_from_where_the_host_does(workers, artifact, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/found.py").write_text(
        "identity = prepare = None.__eq__\ndef execute(path, request): return __file__\n"
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend("")
    async with ExecutePool("found", workers) as pool:
        executed = await pool.execute(artifact, None)
        assert executed.result == str(tmp_path / "elsewhere/found.py")


@story
async def test_the_next_job_finds_nothing_of_the_one_before(workers, artifact):
    async with ExecutePool(ROGUE, workers, workers=1) as pool:
        assert await do(pool, artifact, "litter") == ["artifact", "scratch"]
        assert await do(pool, artifact, "litter") == ["artifact", "scratch"]
        assert sorted(path.name for path in workers.rglob("*")) == ["1"]


@story
async def test_an_artifact_pruned_while_its_job_waits_is_executed_all_the_same(workers, artifact):
    async with meeting() as held, ExecutePool(ROGUE, workers, workers=1) as pool:
        running = asyncio.create_task(do(pool, artifact, "meet", at=held.at, read=True))
        guest = await held.guest()
        waiting = asyncio.create_task(do(pool, artifact, "read"))
        await asyncio.sleep(0)
        artifact.unlink()
        guest.dismiss()
        assert await running == b"native code"
        assert await waiting == b"native code"


@story
async def test_an_artifact_pruned_before_is_unknown(workers, tmp_path):
    async with ExecutePool(ECHO, workers) as pool:
        with pytest.raises(UnknownArtifact):
            await pool.execute(tmp_path / "never", None)


@story
async def test_as_many_jobs_run_at_once_as_there_are_workers(workers, artifact):
    async with meeting() as held, ExecutePool(ROGUE, workers, workers=2) as pool:
        tasks = [asyncio.create_task(do(pool, artifact, "meet", at=held.at)) for _ in range(3)]
        guests = [await held.guest(), await held.guest()]
        assert guests[0].worker != guests[1].worker
        assert held.empty()
        guests[0].dismiss()
        third = await held.guest()
        assert third.worker == guests[0].worker
        for guest in (guests[1], third):
            guest.dismiss()
        await asyncio.gather(*tasks)


@story
async def test_another_environment_gets_another_worker(workers, artifact):
    async with ExecutePool(ROGUE, workers, workers=1) as pool:

        async def worker_for(environment: str) -> int:
            executed = await pool.execute(
                artifact, {"do": "introduce"}, environment=environment, cpu_limit=AMPLE
            )
            return executed.result[1]

        red = await worker_for("red")
        assert await worker_for("red") == red
        assert await worker_for("blue") != red
        await asyncio.to_thread(await_the_end_of, [red])


@story
async def test_the_policy_orders_what_waits(workers, artifact):
    async with meeting() as held, ExecutePool(ROGUE, workers, workers=1, policy=Shares()) as pool:
        answered = []

        async def ask(kind: ExecutionKind) -> None:
            request = {"do": "answer"}
            await pool.execute(artifact, request, kind=kind, cpu_limit=AMPLE)
            answered.append(kind)

        first = asyncio.create_task(do(pool, artifact, "meet", at=held.at))
        guest = await held.guest()
        rest = [asyncio.create_task(ask(kind)) for kind in reversed(ExecutionKind)]
        await asyncio.sleep(0)
        guest.dismiss()
        await asyncio.gather(first, *rest)
        assert answered[0] == ExecutionKind.DISPUTE
        assert sorted(answered) == sorted(ExecutionKind)


@story
async def test_a_requester_that_went_away_ends_its_job(workers, artifact):
    async with meeting() as held, ExecutePool(ROGUE, workers, workers=1) as pool:
        running = asyncio.create_task(do(pool, artifact, "fork and meet", at=held.at))
        guest = await held.guest()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.to_thread(await_the_end_of, [guest.pid, guest.worker])
        assert await do(pool, artifact, "answer", **{"with": 1}) == 1


@story
async def test_a_worker_that_died_idle_is_replaced(workers, artifact):
    async with ExecutePool(ROGUE, workers, workers=1) as pool:
        _, worker = await do(pool, artifact, "introduce")
        os.kill(worker, signal.SIGKILL)
        _, other = await do(pool, artifact, "introduce")
        assert other != worker


@story
async def test_a_job_does_not_wait_for_a_worker_that_never_comes_up(
    workers, artifact, tmp_path, monkeypatch
):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    async with meeting() as held, ExecutePool(ROGUE, workers, workers=2) as pool:
        first = asyncio.create_task(do(pool, artifact, "meet", at=held.at))
        guest = await held.guest()
        monkeypatch.setattr(sys, "executable", str(broken))
        second = asyncio.create_task(do(pool, artifact, "introduce"))
        await asyncio.sleep(0)  # it asks for a worker of its own
        guest.dismiss()
        await first
        assert (await second)[1] == guest.worker


@story
async def test_stopping_ends_what_runs_and_refuses_what_comes(workers, artifact):
    async with meeting() as held:
        pool = ExecutePool(ROGUE, workers, workers=1)
        running = asyncio.create_task(do(pool, artifact, "fork and meet", at=held.at))
        waiting = asyncio.create_task(do(pool, artifact, "answer"))
        guest = await held.guest()
        await pool.stop()
        for task in (running, waiting):
            with pytest.raises(HandleClosed):
                await task
        await asyncio.to_thread(await_the_end_of, [guest.pid, guest.worker])
        with pytest.raises(HandleClosed):
            await pool.execute(artifact, None)
