"""WebAssembly through a host: what a module may do to its process, and how that is told."""

from __future__ import annotations

import runpy
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from host.hosting import hosting
from host.stories import AMPLE, story
from support.making import claimed
from support.tables import row, rows

from registry import (
    CodeTooLarge,
    InvalidCandidate,
    NotPrepared,
    PossiblyInvalid,
    PreparationFailed,
    Registry,
    wasm,
)
from registry.confinement import landlock
from registry.host import Confinement

EXAMPLES = Path(__file__).parents[2] / "examples"
BACKEND = "registry.wasm"
MAGIC = bytes.fromhex("52bc537646db8e05")
MEMORY = 400 * 1024**2
LIMIT = timedelta(seconds=1)

PRIMES = (EXAMPLES / "primes.wat").read_bytes()
COUNT = {"invoke": "count_primes", "args": [1000]}

TROUBLE = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "loop") (loop $again (br $again)))
  (func (export "panic") unreachable)
  (func $overflow (export "overflow") (call $overflow))
  (func (export "allocate")
    (loop $again
      (if (i32.eq (memory.grow (i32.const 256)) (i32.const -1)) (then unreachable))
      (memory.fill
        (i32.mul (i32.sub (memory.size) (i32.const 256)) (i32.const 65536))
        (i32.const 1) (i32.const 16777216))
      (br $again)))
  (func (export "print")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 1000000))
    (loop $again
      (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
        (then unreachable))
      (br $again))))"""

OPENER = b"""(module
  (import "wasi_snapshot_preview1" "path_open" (func $open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "private")
  (func (export "open") (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8))))"""
SUCCESS, ACCESS_DENIED = 0, 2  # WASI's numbers

# What is invoked, whose fault that is, of which kind, and what is said.
ENDS = [
    ({"invoke": "loop", "time_limit": 0.05}, InvalidCandidate, "timed_out", "interrupt"),
    ({"invoke": "panic"}, InvalidCandidate, "rejected", "unreachable"),
    ({"invoke": "overflow"}, InvalidCandidate, "rejected", "stack exhausted"),
    ({"invoke": "allocate"}, InvalidCandidate, "rejected", "unreachable"),
    ({"invoke": "print"}, PossiblyInvalid, "out_of_memory", "more memory than it may have"),
    ({"invoke": "missing"}, InvalidCandidate, "invalid_request", "no function 'missing'"),
    ({}, InvalidCandidate, "invalid_request", "no WASI command"),
    ([], PossiblyInvalid, "job_error", "a request is a mapping"),
]


@story
async def test_modules_are_run_and_what_they_do_is_told(hosted):
    async with hosting(hosted, BACKEND, memory_limit=MEMORY) as host:
        for request, error, kind, message in ENDS:
            with pytest.raises(error, match=message) as caught:
                await host.execute(TROUBLE, {}, request, timeout=AMPLE)
            assert caught.value.kind == kind, request
            assert (await host.execute(PRIMES, {}, COUNT))["values"] == [168]
        with pytest.raises(InvalidCandidate) as caught:
            await host.execute(TROUBLE, {}, {"invoke": "loop"}, timeout=LIMIT)
        assert caught.value.kind == "timed_out"
        assert (await host.precheck(PRIMES)).id == wasm.artifact_id(PRIMES)
    assert len(rows(hosted)) == 2


@pytest.mark.skipif(not landlock.version(), reason="the kernel offers no Landlock")
@story
async def test_confined_all_works_but_no_file_of_the_machine_can_be_opened(hosted, tmp_path):
    (tmp_path / "private").write_text("private")
    look = {"invoke": "open", "dirs": {"/": str(tmp_path)}}
    async with hosting(hosted, BACKEND) as host:
        assert (await host.execute(OPENER, {}, look))["values"] == [SUCCESS]
    async with hosting(hosted, BACKEND, confinement=Confinement()) as host:
        assert (await host.execute(OPENER, {}, look))["values"] == [ACCESS_DENIED]
        assert (await host.execute(PRIMES, {}, COUNT))["values"] == [168]
        words = (EXAMPLES / "wc.wat").read_bytes()
        assert (await host.execute(words, {}, {"stdin": b"two words"}))["exit_code"] == 0


@story
async def test_code_that_cannot_be_compiled_says_why_and_is_remembered(hosted):
    malformed, broken = b"(module (func", MAGIC + b"no zstd at all"
    async with hosting(hosted, BACKEND) as host:
        for code, kind in (
            (malformed, "preparation"),
            (broken, "could_not_decompress_code_blob"),
        ):
            for _ in range(2):
                with pytest.raises(PreparationFailed) as caught:
                    await host.execute(code, {}, COUNT)
                assert not isinstance(caught.value, NotPrepared)
                failed = caught.value.artifact
                assert (failed.error_kind, failed.num_failures) == (kind, 1)


@story
async def test_a_bomb_of_code_is_refused_before_it_goes_off_and_is_not_remembered(hosted):
    bomb = MAGIC + zstandard.compress(bytes(64 * 1024**2))
    async with hosting(hosted, BACKEND) as host:
        for asking in (host.precheck(bomb), host.execute(bomb, {}, COUNT)):
            with pytest.raises(CodeTooLarge):
                await asking
        with pytest.raises(CodeTooLarge, match="limit is 10"):  # the asker may be stricter
            await host.precheck(PRIMES, {"code_limit": 10})
    assert rows(hosted) == []


@story
async def test_code_that_compiles_for_too_long_or_too_large_is_told_from_bad_code(hosted):
    slow = runpy.run_path(str(EXAMPLES / "unrolled.py"))["module"]().encode()
    async with hosting(hosted, BACKEND, prepare_timeout=timedelta(seconds=0.1)) as host:
        with pytest.raises(NotPrepared) as late:
            await host.execute(slow, {}, COUNT)
    async with hosting(hosted, BACKEND, memory_limit=60 * 1024**2) as host:
        with pytest.raises(PreparationFailed) as large:
            await host.precheck(slow + b"\n")
    assert (late.value.kind, large.value.artifact.error_kind) == ("timed_out", "out_of_memory")


@story
async def test_an_artifact_that_wasmtime_rejects_is_compiled_again(hosted):
    name = wasm.artifact_id(PRIMES)
    with Registry(hosted) as other:
        rubbish = claimed(other, name).publish(b"rubbish")
    async with hosting(hosted, BACKEND) as host:
        assert (await host.execute(PRIMES, {}, COUNT))["values"] == [168]
    assert row(hosted, name)["path"] != rubbish.path.name
