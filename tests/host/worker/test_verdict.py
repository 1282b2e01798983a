"""What became of a job, judged without a process."""

from __future__ import annotations

import signal

import pytest

from registry.host import wire
from registry.host.messages import Reply
from registry.host.worker.limits import Limits
from registry.host.worker.verdict import Ended, verdict

MIB = 1024**2
LIMITS = Limits(cpu=10.0, memory=100 * MIB)
RESULT = wire.frame(Reply(result=b"42").to_wire())[wire.HEADER :]


def ended(**how) -> Ended:
    return Ended(
        **{"report": None, "status": 0, "cpu_seconds": 1.0, "peak_memory": 10 * MIB, **how}
    )


def exited(code: int) -> int:
    return code << 8


def test_a_report_is_the_answer_and_is_measured():
    reply = verdict(ended(report=RESULT), LIMITS)
    assert reply == Reply(result=b"42", cpu_seconds=1.0, peak_memory=10 * MIB)


def test_a_report_counts_however_the_process_ended():
    assert verdict(ended(report=RESULT, status=signal.SIGKILL), LIMITS).kind is None


def test_an_answer_after_the_time_is_none():
    assert verdict(ended(report=RESULT, cpu_seconds=10.1), LIMITS).kind == "timed_out"


def test_the_kernels_own_time_limit_is_a_time_out():
    assert verdict(ended(status=signal.SIGXCPU), LIMITS).kind == "timed_out"


def test_a_job_that_was_ended_timed_out_whatever_it_says():
    assert verdict(ended(report=RESULT, overran=True), LIMITS).kind == "timed_out"


@pytest.mark.parametrize(
    "how",
    [
        {"last_words": b"memory allocation of 4096 bytes failed"},
        {"last_words": b"what():  std::bad_alloc"},
        {"last_words": b"LLVM ERROR: out of memory"},
        {"peak_memory": 95 * MIB},
    ],
)
@pytest.mark.parametrize("signum", [signal.SIGABRT, signal.SIGSEGV])
def test_native_code_that_was_refused_memory_is_out_of_memory(how, signum):
    reply = verdict(ended(status=signum, **how), LIMITS)
    assert (reply.kind, reply.deterministic) == ("out_of_memory", True)


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (signal.SIGABRT, {"last_words": b"assertion failed"}),
        (signal.SIGKILL, {"peak_memory": 95 * MIB}),
        (exited(1), {"last_words": b"out of memory"}),
        (exited(0), {}),
    ],
)
def test_every_other_death_is_just_one(status, how):
    reply = verdict(ended(status=status, **how), LIMITS)
    assert (reply.kind, reply.deterministic) == ("job_died", False)


def test_without_a_memory_limit_nothing_can_have_met_it():
    dead = ended(status=signal.SIGABRT, last_words=b"out of memory")
    assert verdict(dead, Limits(cpu=10.0)).kind == "job_died"


@pytest.mark.parametrize("report", [b"", b"\xc1", wire.frame([1, 2])[wire.HEADER :]])
def test_a_report_that_is_none_is_a_death(report):
    assert verdict(ended(report=report), LIMITS).kind == "job_died"


def test_the_end_is_told_in_words():
    assert "exited with status 3" in verdict(ended(status=exited(3)), LIMITS).message
    assert "SIGSEGV" in verdict(ended(status=signal.SIGSEGV), LIMITS).message
    assert "signal 40" in verdict(ended(status=40), LIMITS).message
    assert "'help'" in verdict(ended(last_words=b"help\n"), LIMITS).message
