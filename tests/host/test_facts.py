"""What the original PVF host does, fact by fact, where no other story tells it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from host.hosting import hosting, id_of, published, until
from host.stories import meeting, running_in, story, wish
from support.tables import row, rows

from registry import (
    CleanupConfig,
    InternalError,
    InvalidCandidate,
    PossiblyInvalid,
    PreparationFailed,
    Registry,
    RetryPolicy,
    wasm,
)
from registry.host import ExecutionKind, Priority
from registry.host import host as hosts
from registry.host.kinds import DETERMINISTIC, EXECUTION_ERROR, TRANSIENT, Kind
from registry.host.pool import execute_pool, worker, workers
from registry.host.pulse import CLEANUP_INTERVAL
from registry.host.queue import execute_queue
from registry.host.queue.prepare_queue import PREPARE_WORKERS, PREPARE_WORKERS_HARD
from registry.host.worker.limits import LENIENT_TIMEOUT, PRECHECK_TIMEOUT, WALL_FACTOR

EXAMPLES = Path(__file__).parents[2] / "examples"
FINE = wish("answer")
READ = {"do": "read"}


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# --- the constants ------------------------------------------------------------------------------

CONSTANTS = [
    ("cache limit", CleanupConfig().cache_limit, 10 * 1024**3),
    ("needed too lately to be pruned", CleanupConfig().min_stale_time, timedelta(hours=24)),
    ("cleanup pulse", CLEANUP_INTERVAL, timedelta(hours=1)),
    ("retries after the first failure", RetryPolicy().max_retries, 5),
    ("time between two tries", RetryPolicy().cooldown, timedelta(minutes=15)),
    ("time to prepare, precheck", PRECHECK_TIMEOUT, seconds(60)),
    ("time to prepare, for execution", LENIENT_TIMEOUT, seconds(360)),
    ("wall clock, times the CPU limit", WALL_FACTOR, 4),
    ("prepare workers", (PREPARE_WORKERS, PREPARE_WORKERS_HARD), (1, 1)),
    ("execute workers", execute_queue.EXECUTE_WORKERS, 2),
    ("longest wait for a worker of another environment", execute_queue.MAX_KEEP_WAITING, 4.0),
    ("time for a worker to come up, more patient than the original", worker.SPAWN_TIMEOUT, 60.0),
    ("time until it is tried again", workers.RETRY_DELAY, 3.0),
    ("decompressed code", (hosts.CODE_LIMIT, wasm.CODE_LIMIT), (12 * 1024**2, 12 * 1024**2)),
]


@pytest.mark.parametrize(("what", "ours", "theirs"), CONSTANTS, ids=[c[0] for c in CONSTANTS])
def test_the_constants_are_the_originals(what, ours, theirs):
    assert ours == theirs


def test_backing_has_two_seconds_and_whoever_only_checks_it_twelve():
    assert {
        kind.name: limit.total_seconds() for kind, limit in execute_pool.EXECUTION_TIMEOUT.items()
    } == {"DISPUTE": 12, "APPROVAL": 12, "BACKING_SYSTEM_PARAS": 2, "BACKING": 2}


# --- the errors ---------------------------------------------------------------------------------


def test_a_failed_preparation_is_deterministic_or_may_pass_as_its_kind_says():
    assert {
        Kind.PREVALIDATION,
        Kind.PREPARATION,
        Kind.JOB_ERROR,
        Kind.OUT_OF_MEMORY,
        Kind.COULD_NOT_DECOMPRESS_CODE_BLOB,
    } == DETERMINISTIC
    assert {
        Kind.TIMED_OUT,
        Kind.RUNTIME_CONSTRUCTION,
        Kind.IO_ERR,
        Kind.CREATE_TMP_FILE,
        Kind.RENAME_TMP_FILE,
        Kind.CLEAR_WORKER_DIR,
        Kind.JOB_DIED,
        Kind.KERNEL,
    } == TRANSIENT


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (InvalidCandidate, {Kind.REJECTED, Kind.TIMED_OUT, Kind.COULD_NOT_DECOMPRESS_REQUEST}),
        (
            PossiblyInvalid,
            {
                Kind.WORKER_DIED,
                Kind.JOB_DIED,
                Kind.JOB_ERROR,
                Kind.CORRUPTED_ARTIFACT,
                Kind.OUT_OF_MEMORY,
            },
        ),
        (
            InternalError,
            {
                Kind.RUNTIME_CONSTRUCTION,
                Kind.IO_ERR,
                Kind.CREATE_TMP_FILE,
                Kind.CLEAR_WORKER_DIR,
                Kind.KERNEL,
            },
        ),
    ],
    ids=["the candidate's", "perhaps the candidate's", "nobody's"],
)
def test_a_failed_execution_is_somebodys_fault_as_its_kind_says(fault, kinds):
    assert {kind for kind, error in EXECUTION_ERROR.items() if error is fault} == kinds


# --- the verbs ----------------------------------------------------------------------------------


@story
async def test_a_failed_preparation_is_told_to_all_who_wait_for_it_and_counted_once(hosted):
    async with meeting() as held, hosting(hosted) as host:
        busy = asyncio.create_task(host.precheck(wish("meet", at=held.at)))
        guest = await held.guest()
        bad = wish("raise", error="Prevalidation")
        asking = [asyncio.create_task(host.precheck(bad)) for _ in range(2)]
        asking += [asyncio.create_task(host.execute(bad, {}, READ)) for _ in range(2)]
        await until(lambda: host.metrics.coalesced == 3)
        guest.dismiss()
        await busy
        ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [PreparationFailed] * 4
    assert len({end.artifact for end in ends}) == 1
    failed = row(hosted, id_of(bad))
    assert (failed["error_kind"], failed["num_failures"]) == ("prevalidation", 1)
    assert failed["last_time_failed"] is not None


@story
async def test_who_joins_a_preparation_does_not_raise_its_priority(hosted):
    async with meeting() as held, hosting(hosted) as host:
        busy, first, second = (wish("meet", at=held.at, number=number) for number in range(3))
        await host.heads_up([(busy, {})])
        guest = await held.guest()
        for number, code in enumerate((first, second), start=2):
            await host.heads_up([(code, {})])
            await until(lambda number=number: host.metrics.prepare.enqueued == number)
        urgent = host.execute(second, {}, READ, priority=Priority.CRITICAL)
        urgent = asyncio.create_task(urgent)
        await until(lambda: host.metrics.coalesced == 1)
        for _ in range(2):
            guest.dismiss()
            guest = await held.guest()
        await until(lambda: row(hosted, id_of(first))["state"] == "prepared")
        assert row(hosted, id_of(second))["state"] == "preparing"
        guest.dismiss()
        assert await urgent == b"prepared"


@story
async def test_what_was_prepared_counts_as_needed_then_and_its_size_is_known(hosted):
    async with meeting() as held, hosting(hosted) as host:
        preparing = asyncio.create_task(host.precheck(wish("meet", at=held.at)))
        guest = await held.guest()
        while_it_runs = published(hosted, FINE).last_time_needed
        guest.dismiss()
        prepared = await preparing
    assert prepared.last_time_needed >= while_it_runs
    assert prepared.size == len(b"prepared") == prepared.path.stat().st_size


# --- the ids ------------------------------------------------------------------------------------


@story
async def test_what_alters_no_artifact_prepares_nothing_again(hosted):
    code = (EXAMPLES / "primes.wat").read_bytes()
    count = {"invoke": "count_primes", "args": [1000]}
    ways = [
        {},
        {"timeout": seconds(60)},
        {"kind": ExecutionKind.DISPUTE},
        {"priority": Priority.CRITICAL},
        {"label": "another"},
    ]
    async with hosting(hosted, "registry.wasm") as host:
        for way in ways:
            assert (await host.execute(code, {}, count, **way))["values"] == [168]
        await host.execute(code, {"code_limit": 10**6}, {**count, "memory_limit": 2**30})
        assert host.metrics.prepare.enqueued == len(rows(hosted)) == 1
        await host.execute(code, {"opt_level": "none"}, count)
        assert host.metrics.prepare.enqueued == len(rows(hosted)) == 2


@story
async def test_code_is_hashed_as_it_is_given(hosted):
    plain = (EXAMPLES / "primes.wat").read_bytes()
    packed = bytes.fromhex("52bc537646db8e05") + zstandard.compress(plain)
    async with hosting(hosted, "registry.wasm") as host:
        one, other = await host.precheck(plain), await host.precheck(packed)
    assert one.id.code_hash != other.id.code_hash
    assert one.id.prep_hash == other.id.prep_hash
    assert one.size == other.size


# --- where the original is weak, and we are not -------------------------------------------------


@story
async def test_starting_wipes_nothing_neither_ours_nor_what_only_looks_like_it(hosted):
    artifact = published(hosted, FINE, b"theirs")
    looks_alike = ["abcd.pvfartifact", "polkadot_old", "wasmtime_old", "worker-dir-old"]
    for folder in (hosted, hosted / "artifacts"):
        for name in looks_alike:
            (folder / name).write_text("somebody's")
    async with hosting(hosted) as host:
        assert await host.execute(FINE, {}, READ) == b"theirs"
    with Registry(hosted) as registry:
        registry.check(repair=True)
        assert registry.get(artifact.id).path == artifact.path
    for folder in (hosted, hosted / "artifacts"):
        assert {(folder / name).read_text() for name in looks_alike} == {"somebody's"}


@story
async def test_precheck_does_not_vouch_for_a_file_that_is_gone(hosted):
    artifact = published(hosted, FINE, b"theirs")
    artifact.path.unlink()
    async with hosting(hosted) as host:
        again = await host.precheck(FINE)
    assert again.path.read_bytes() == b"prepared"
    assert row(hosted, artifact.id)["num_failures"] == 0


@story
async def test_a_failure_outlives_its_host(hosted):
    bad = wish("raise", error="Prevalidation")
    for _ in range(2):
        async with hosting(hosted) as host:
            with pytest.raises(PreparationFailed, match="not wasm"):
                await host.execute(bad, {}, READ)
            known = running_in(hosted)
    assert known == [], "the second host needed no worker to know it"
    assert row(hosted, id_of(bad))["num_failures"] == 1
