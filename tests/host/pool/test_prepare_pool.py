"""Preparations by real workers: each way to fail has its kind, and the next request works."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from host.stories import (
    AMPLE,
    ECHO,
    ROGUE,
    await_the_end_of,
    meeting,
    named,
    running_in,
    story,
    wish,
)

from registry.artifact import ArtifactId
from registry.errors import ArtifactBusy, HandleClosed, InvalidSetting, PrepareError
from registry.host.pool import worker
from registry.host.pool import workers as workers_module
from registry.host.pool.prepare_pool import PreparePool
from registry.host.queue.events import MAX_DELIVERIES
from registry.host.queue.priority import Priority
from registry.host.worker import process

MEMORY = 400 * 1024**2
SHORT = timedelta(seconds=0.4)


async def failure_of(pool: PreparePool, code: bytes, **limits) -> PrepareError:
    with pytest.raises(PrepareError) as caught:
        await pool.prepare(named(code), code, {}, **{"cpu_limit": AMPLE, **limits})
    return caught.value


async def prepare_something(pool: PreparePool) -> bytes:
    code = wish("answer", nonce=os.urandom(8).hex())
    prepared = await pool.prepare(named(code), code, {}, cpu_limit=AMPLE)
    data = prepared.path.read_bytes()
    prepared.path.unlink()
    return data


@story
async def test_code_becomes_a_file_that_is_the_callers(workers):
    async with PreparePool(ECHO, workers) as pool:
        prepared = await pool.prepare(ArtifactId.of(b"code"), b"code", {"level": 2})
        assert prepared.path.read_bytes() == b"code[('level', 2)]"
        assert prepared.path.stat().st_mode & 0o777 == 0o600
        assert prepared.cpu_seconds > 0
        assert prepared.peak_memory > 1024**2
        prepared.path.unlink()


@story
async def test_large_code_and_parameters_of_any_size_arrive_whole(workers):
    code = os.urandom(1024) * 16 * 1024
    async with PreparePool(ECHO, workers) as pool:
        prepared = await pool.prepare(named(code), code, {"huge": 2**100, "ö": ["\x00"]})
        assert (
            prepared.path.read_bytes() == code + repr([("huge", 2**100), ("ö", ["\x00"])]).encode()
        )
        prepared.path.unlink()


FAILURES = {
    "raises": (wish("raise", error="ValueError"), {}, "job_error", True),
    "raises SystemExit": (wish("raise", error="SystemExit"), {}, "job_error", True),
    "raises KeyboardInterrupt": (wish("raise", error="KeyboardInterrupt"), {}, "job_error", True),
    "raises text that nobody can say": (wish("raise", error="Surrogate"), {}, "job_error", True),
    "meets a sick disk": (wish("raise", error="OSError"), {}, "io_err", False),
    "refuses the code": (wish("raise", error="Prevalidation"), {}, "prevalidation", True),
    "fails in its own words": (wish("raise", error="Transient"), {}, "tired", False),
    "returns text": (wish("answer", **{"with": "text", "as it is": 1}), {}, "job_error", True),
    "returns no bytes": (
        wish("answer much", bytes=0, **{"as it is": 1}),
        {},
        "job_error",
        True,
    ),
    "is no wish at all": (b"\0", {}, "job_error", True),
    "loops": (wish("loop"), {"cpu_limit": SHORT}, "timed_out", False),
    "loops in a thread": (wish("loop in a thread"), {"cpu_limit": SHORT}, "timed_out", False),
    "answers too late": (wish("burn", seconds=0.5), {"cpu_limit": SHORT}, "timed_out", False),
    "lets a child loop": (
        wish("burn in a child", seconds=0.5),
        {"cpu_limit": SHORT},
        "timed_out",
        False,
    ),
    "sleeps": (wish("sleep"), {"cpu_limit": SHORT}, "timed_out", False),
    "stops itself": (
        wish("signal self", signal=signal.SIGSTOP),
        {"cpu_limit": SHORT},
        "timed_out",
        False,
    ),
    "stops its worker": (
        wish("signal worker", signal=signal.SIGSTOP),
        {"cpu_limit": SHORT},
        "timed_out",
        False,
    ),
    "allocates": (wish("allocate"), {"memory_limit": MEMORY}, "out_of_memory", True),
    "raises MemoryError": (wish("raise", error="MemoryError"), {}, "out_of_memory", True),
    "aborts for want of memory": (
        wish("abort for want of memory"),
        {"memory_limit": MEMORY},
        "out_of_memory",
        True,
    ),
    "exits well": (wish("leave"), {}, "job_died", False),
    "exits ill": (wish("leave", status=7), {}, "job_died", False),
    "kills itself": (wish("signal self", signal=signal.SIGKILL), {}, "job_died", False),
    "kills its group": (wish("signal group", signal=signal.SIGKILL), {}, "job_died", False),
    "crashes": (wish("crash"), {}, "job_died", False),
    "babbles": (wish("shout at everything"), {}, "job_died", False),
    "kills its worker": (wish("signal worker", signal=signal.SIGKILL), {}, "io_err", False),
    "leaves no place for the artifact": (wish("occupy the output"), {}, "create_tmp_file", False),
    "cannot be cleared up after": (wish("remove the folder"), {}, "clear_worker_dir", False),
}


@pytest.mark.parametrize(
    ("code", "limits", "kind", "deterministic"), FAILURES.values(), ids=FAILURES.keys()
)
@story
async def test_each_failure_has_its_kind_and_the_next_request_works(
    workers, code, limits, kind, deterministic
):
    async with PreparePool(ROGUE, workers) as pool:
        error = await failure_of(pool, code, **limits)
        assert (error.kind, error.deterministic) == (kind, deterministic), str(error)
        assert await prepare_something(pool) == b"prepared"


@story
async def test_a_failure_says_what_happened(workers):
    async with PreparePool(ROGUE, workers) as pool:
        raised = await failure_of(pool, wish("raise", error="ValueError"))
        died = await failure_of(pool, wish("leave", status=7))
        killed = await failure_of(pool, wish("signal self", signal=signal.SIGKILL))
        last_words = await failure_of(pool, wish("abort for want of memory"))
        long = await failure_of(pool, wish("raise", error="Long"))
    assert "ValueError: no such thing" in str(raised)
    assert "exited with status 7" in str(died)
    assert "SIGKILL" in str(killed)
    assert last_words.kind == "job_died", "there was no limit that could have been met"
    assert "memory allocation of 1125899906842624 bytes failed" in str(last_words)
    assert len(str(long)) == 64 * 1024


@story
async def test_output_is_no_answer(workers):
    async with PreparePool(ROGUE, workers) as pool:
        prepared = await pool.prepare(named(b"x"), wish("shout"), {}, cpu_limit=AMPLE)
        assert prepared.path.read_bytes() == b"prepared"
        prepared.path.unlink()


@story
async def test_what_a_job_forks_ends_with_it(workers):
    async with PreparePool(ROGUE, workers) as pool:
        prepared = await pool.prepare(named(b"x"), wish("fork"), {}, cpu_limit=AMPLE)
        prepared.path.unlink()
        assert len(running_in(workers)) == 1, "the worker, and nobody else"


@story
async def test_addresses_that_are_only_reserved_count_for_nothing(workers):
    code = wish("reserve", bytes=64 * 1024**3)
    async with PreparePool(ROGUE, workers) as pool:
        prepared = await pool.prepare(named(code), code, {}, memory_limit=MEMORY)
        prepared.path.unlink()


@story
async def test_an_artifact_that_cannot_be_taken_fails_and_the_worker_lives_on(workers):
    (workers / "prepared-1").mkdir(parents=True)
    async with PreparePool(ROGUE, workers) as pool:
        with pytest.raises(PrepareError) as caught:
            await pool.prepare(named(b"x"), wish("answer"), {})
        assert caught.value.kind == "rename_tmp_file"
        assert not caught.value.deterministic
        before = running_in(workers)
        await prepare_something(pool)
        assert running_in(workers) == before
        (workers / "prepared-1").rmdir()


@story
async def test_a_worker_that_cannot_fork_is_replaced(workers):
    async with PreparePool(ROGUE, workers) as pool:
        await prepare_something(pool)
        [pid] = running_in(workers)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, 4))
        error = await failure_of(pool, wish("answer"))
        assert (error.kind, error.deterministic) == ("kernel", False)
        await prepare_something(pool)
        assert pid not in running_in(workers)


@story
async def test_a_critical_job_overtakes_a_normal_one(workers):
    async with meeting() as held, PreparePool(ROGUE, workers) as pool:

        def ask(name: str, priority: Priority) -> asyncio.Task:
            code = wish("meet", at=held.at, name=name)
            return asyncio.create_task(
                pool.prepare(named(code), code, {}, priority=priority, cpu_limit=AMPLE)
            )

        first = ask("first", Priority.NORMAL)
        guest = await held.guest()
        normal = ask("normal", Priority.NORMAL)
        critical = ask("critical", Priority.CRITICAL)
        guest.dismiss()
        (await first).path.unlink()
        (await held.guest()).dismiss()
        (await critical).path.unlink()
        assert not normal.done()
        (await held.guest()).dismiss()
        (await normal).path.unlink()


@story
async def test_a_critical_job_may_use_a_worker_more(workers):
    async with meeting() as held, PreparePool(ROGUE, workers, workers=1, workers_hard=2) as pool:
        tasks = []
        for name, priority in (("a", Priority.NORMAL), ("b", Priority.CRITICAL)):
            code = wish("meet", at=held.at, name=name)
            tasks.append(
                asyncio.create_task(pool.prepare(named(code), code, {}, priority=priority))
            )
        guests = [await held.guest(), await held.guest()]
        assert guests[0].worker != guests[1].worker
        for guest in guests:
            guest.dismiss()
        for task in tasks:
            (await task).path.unlink()


@story
async def test_the_same_id_twice_at_once_is_refused(workers):
    async with meeting() as held, PreparePool(ROGUE, workers) as pool:
        code = wish("meet", at=held.at)
        first = asyncio.create_task(pool.prepare(named(code), code, {}))
        guest = await held.guest()
        with pytest.raises(ArtifactBusy):
            await pool.prepare(named(code), code, {})
        guest.dismiss()
        (await first).path.unlink()


@story
async def test_a_cancelled_job_is_killed_and_the_next_one_runs(workers):
    async with meeting() as held, PreparePool(ROGUE, workers) as pool:
        code = wish("meet", at=held.at)
        task = asyncio.create_task(pool.prepare(named(code), code, {}))
        guest = await held.guest()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(await_the_end_of, [guest.pid, guest.worker])
        assert await prepare_something(pool) == b"prepared"


@story
async def test_a_cancelled_job_that_waits_is_never_begun(workers):
    async with meeting() as held, PreparePool(ROGUE, workers) as pool:
        code = wish("meet", at=held.at)
        first = asyncio.create_task(pool.prepare(named(code), code, {}))
        guest = await held.guest()
        other = wish("meet", at=held.at, name="other")
        second = asyncio.create_task(pool.prepare(named(other), other, {}))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        guest.dismiss()
        (await first).path.unlink()
        await prepare_something(pool)
        assert held.empty()


@story
async def test_stopping_ends_what_runs_and_refuses_what_comes(workers):
    async with meeting() as held:
        pool = PreparePool(ROGUE, workers)
        code = wish("fork and meet", at=held.at)
        running = asyncio.create_task(pool.prepare(named(code), code, {}))
        waiting = asyncio.create_task(pool.prepare(named(b"w"), wish("answer"), {}))
        guest = await held.guest()
        await pool.stop()
        for task in (running, waiting):
            with pytest.raises(HandleClosed):
                await task
        await asyncio.to_thread(await_the_end_of, [guest.pid, guest.worker])
        with pytest.raises(HandleClosed):
            await pool.prepare(named(b"w"), wish("answer"), {})
        await pool.stop()


@story
async def test_draining_waits_for_what_was_asked_for(workers):
    async with meeting() as held, PreparePool(ROGUE, workers) as pool:
        code = wish("meet", at=held.at)
        running = asyncio.create_task(pool.prepare(named(code), code, {}))
        guest = await held.guest()
        drained = asyncio.create_task(pool.drain())
        guest.dismiss()
        await drained
        (await running).path.unlink()


@story
async def test_a_worker_that_died_idle_is_replaced(workers):
    async with PreparePool(ROGUE, workers) as pool:
        await prepare_something(pool)
        [pid] = running_in(workers)
        os.kill(pid, signal.SIGKILL)
        assert await prepare_something(pool) == b"prepared"


@story
async def test_a_worker_killed_at_its_job_fails_it_and_leaves_nothing_running(workers):
    async with meeting() as held, PreparePool(ROGUE, workers) as pool:
        code = wish("fork and meet", at=held.at)
        task = asyncio.create_task(pool.prepare(named(code), code, {}))
        guest = await held.guest()
        started = running_in(workers)
        assert len(started) == 5, "the worker, the job, and three that it forked"
        os.kill(guest.worker, signal.SIGKILL)
        with pytest.raises(PrepareError) as caught:
            await task
        assert (caught.value.kind, caught.value.deterministic) == ("io_err", False)
        await asyncio.to_thread(await_the_end_of, started)
        assert await prepare_something(pool) == b"prepared"


@pytest.mark.parametrize("turns", [0, 100], ids=["not yet sent", "sent"])
@story
async def test_a_worker_that_dies_before_it_has_its_job_costs_the_job_nothing(workers, turns):
    async with PreparePool(ROGUE, workers) as pool:
        await prepare_something(pool)
        [pid] = running_in(workers)
        os.kill(pid, signal.SIGSTOP)  # alive, but it takes nothing any more
        task = asyncio.create_task(prepare_something(pool))
        for _ in range(turns):
            await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert await task == b"prepared"


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("host.backends.raises_at_import", "RuntimeError: not here"),
        ("host.backends.exits_at_import", "could not be loaded"),
        ("host.backends.incomplete", "no function identity and no execute"),
        ("host.backends.absent", "ModuleNotFoundError"),
    ],
)
@story
async def test_a_backend_that_cannot_be_loaded_fails_each_job(workers, backend, said):
    async with PreparePool(backend, workers) as pool:
        for _ in range(2):
            error = await failure_of(pool, b"code")
            assert (error.kind, error.deterministic) == ("runtime_construction", False)
            assert said in str(error)


DYING = """
import os
from pathlib import Path
from host.backends.echo import execute, identity, prepare

deaths = Path({deaths!r})
if len(os.listdir(deaths)) < {limit}:
    (deaths / str(os.getpid())).touch()
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("limit", [1, MAX_DELIVERIES, 99])
@story
async def test_a_worker_killed_while_it_loads_the_backend_costs_the_job_nothing_unless_all_are(
    workers, tmp_path: Path, monkeypatch, limit
):
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    name = f"dying_{limit}"
    (tmp_path / f"{name}.py").write_text(DYING.format(deaths=str(deaths), limit=limit))
    monkeypatch.syspath_prepend(str(tmp_path))
    async with PreparePool(name, workers) as pool:
        if limit >= MAX_DELIVERIES:
            error = await failure_of(pool, b"code")
            assert (error.kind, error.deterministic) == ("io_err", False)
        if limit <= MAX_DELIVERIES:
            (await pool.prepare(named(b"code"), b"code", {})).path.unlink()
    assert len(os.listdir(deaths)) == min(limit, MAX_DELIVERIES)


@story
async def test_killing_a_worker_never_holds_up_the_loop(workers, monkeypatch):
    threads = []

    def kill_offspring(*family) -> None:
        threads.append(threading.get_ident())
        process.kill_offspring(*family)

    monkeypatch.setattr(worker, "kill_offspring", kill_offspring)
    async with PreparePool(ROGUE, workers) as pool:
        stop = wish("signal worker", signal=signal.SIGSTOP)
        assert (await failure_of(pool, stop, cpu_limit=SHORT)).kind == "timed_out"
        assert await prepare_something(pool) == b"prepared"
    assert threads
    assert threading.get_ident() not in threads


@story
async def test_a_worker_that_does_not_come_up_is_tried_again(
    workers, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setattr(workers_module, "RETRY_DELAY", 0.01)
    monkeypatch.setattr(worker, "SPAWN_TIMEOUT", 2.0)
    marks = tmp_path / "marks"
    marks.mkdir()
    # Once it dies with a word, once it hangs, and then it is the interpreter.
    launcher = tmp_path / "python"
    launcher.write_text(
        f"#!/bin/sh\nmkdir {marks}/1 2>&- && echo out of order >&2 && exit 1\n"
        f'mkdir {marks}/2 2>&- && exec sleep 60\nexec {sys.executable} "$@"\n'
    )
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    async with PreparePool(ECHO, workers) as pool:
        (await pool.prepare(ArtifactId.of(b"code"), b"code", {})).path.unlink()
    assert "out of order" in caplog.text
    assert sorted(os.listdir(marks)) == ["1", "2"]


@pytest.mark.parametrize(
    "limits", [{"cpu_limit": timedelta(0)}, {"memory_limit": 0}, {"memory_limit": -1}]
)
@story
async def test_impossible_limits_are_refused(workers, limits):
    async with PreparePool(ECHO, workers) as pool:
        with pytest.raises(InvalidSetting):
            await pool.prepare(named(b"x"), b"x", {}, **limits)
