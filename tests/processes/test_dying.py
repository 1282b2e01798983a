"""Hosts that are killed or stopped while they prepare: others go on, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from processes.crew import Child, Crew, Line, first_of, say_when_waiting
from processes.traces import code_id, query
from registry import Claim, ClaimLost, PreparationFailed, Registry, State, WaitTimeout
from registry.world.files import Files

X = code_id("x")


def prepares(line: Line, cache: Path) -> None:
    """Prepare until told what to publish."""
    with Registry(cache) as registry:
        registry.get_or_prepare(X, lambda: line.ask("preparing"))


def takes_over(line: Line, cache: Path) -> float:
    """Wait for whoever prepares; answers when it could prepare itself, by the machine's clock."""
    taken_over_at = []

    def prepare() -> bytes:
        taken_over_at.append(time.monotonic())
        return b"taken over"

    say_when_waiting(line)
    with Registry(cache) as registry:
        registry.get_or_prepare(X, prepare)
    return taken_over_at[0]


def killed_while_preparing(crew: Crew, cache: Path) -> Child:
    child = crew.start(prepares, cache)
    child.expect("preparing")
    child.kill()
    return child


def test_who_waits_takes_over_from_the_dead(cache: Path, crew: Crew) -> None:
    preparing = crew.start(prepares, cache)
    preparing.expect("preparing")
    waiting = crew.start(takes_over, cache)
    waiting.expect("waiting")

    died_at = time.monotonic()
    preparing.kill()

    print(f"taken over {1000 * (waiting.hear() - died_at):.1f} ms after the kill")
    with Registry(cache) as registry:
        found = registry.get(X)
        assert found is not None
        assert (found.state, found.size, found.num_failures) == (State.PREPARED, 10, 0)


def waits_or_prepares(line: Line, cache: Path) -> None:
    say_when_waiting(line)
    prepares(line, cache)


def test_of_many_who_wait_for_the_dead_one_takes_over(cache: Path, crew: Crew) -> None:
    preparing = crew.start(prepares, cache)
    preparing.expect("preparing")
    waiting = [crew.start(waits_or_prepares, cache) for _ in range(5)]
    for child in waiting:
        child.expect("waiting")

    preparing.kill()

    heir = first_of(waiting)
    heir.expect("preparing")
    heir.tell(b"the heir's")
    last_words = [child.last_word() for child in waiting]  # none of them prepares once more
    assert last_words == [None] * 5


def test_what_the_dead_wrote_is_gone_with_their_claim(cache: Path, crew: Crew) -> None:
    child = killed_while_preparing(crew, cache)
    ((name,),) = query(cache, "SELECT path FROM artifact")
    (cache / "artifacts" / f"{name}.tmp").write_bytes(b"half")
    (cache / "workers" / query(cache, "SELECT id FROM host")[0][0]).mkdir()

    with Registry(cache) as registry:
        found = registry.get(X)
        assert found is not None
        assert (found.state, found.error_kind, found.num_failures) == ("failed", "host_died", 1)
        assert os.listdir(cache / "artifacts") == []
        assert os.listdir(cache / "workers") == []
        assert [host.pid for host in registry.hosts()] == [os.getpid()] != [child.pid]


def test_code_that_kills_its_host_six_times_is_not_tried_a_seventh(cache: Path, crew: Crew) -> None:
    for deaths in range(1, 7):
        killed_while_preparing(crew, cache)
        with Registry(cache) as registry:
            found = registry.get(X)
            assert found is not None
            assert (found.error_kind, found.num_failures) == ("host_died", deaths)
            assert (found.retry_at is None) == (deaths == 6)

    with Registry(cache) as registry:
        refused = registry.claim(X)
        assert not isinstance(refused, Claim)
        assert (refused.state, refused.num_failures) == (State.FAILED, 6)
        with pytest.raises(PreparationFailed, match=r"failed 6 times.*not be tried again"):
            registry.get_or_prepare(X, lambda: b"never")

        assert registry.retry(X)
        assert registry.get_or_prepare(X, lambda: b"at last").size == 7


STOPPED = """
import signal, sys, time
from processes.traces import code_id
from registry import Registry

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

def compile_():
    print("compiling", flush=True)
    time.sleep(600)

with Registry(sys.argv[1]) as registry:
    registry.get_or_prepare(code_id("x"), compile_)
"""


def test_a_service_that_exits_at_sigterm_is_held_against_no_code(cache: Path) -> None:
    for _ in range(7):  # once more than code may kill its host
        service = subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(cache)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert service.stdout is not None
        assert service.stdout.readline() == b"compiling\n"
        service.terminate()
        assert service.wait() == 143
        service.stdout.close()
    with Registry(cache) as registry:
        assert registry.get(code_id("x")) is None
        assert registry.get_or_prepare(code_id("x"), lambda: b"at last").size == 7
        assert registry.check().ok


def dies_of_it(line: Line, cache: Path) -> str:
    """Take up what is abandoned, and die of it; or say that it may not be tried."""
    with Registry(cache) as registry:
        try:
            registry.get_or_prepare(X, lambda: os.kill(os.getpid(), signal.SIGKILL))
        except PreparationFailed as failure:
            return f"{failure.artifact.error_kind} {failure.artifact.num_failures}"
    raise AssertionError("it prepared what kills")


def test_those_who_wait_for_deadly_code_are_told_before_it_kills_them_all(
    cache: Path, crew: Crew
) -> None:
    # All want it from the start, so each death is met by takers-over, not by an opening.
    children = [crew.start(dies_of_it, cache) for _ in range(10)]

    codes = sorted(child.join() for child in children)

    assert codes == [-signal.SIGKILL] * 6 + [0] * 4
    assert [c.hear() for c in children if c.process.exitcode == 0] == ["host_died 6"] * 4
    with Registry(cache) as registry:
        registry.retry(X)


def stops_past_its_deadline(line: Line, cache: Path, step: str) -> str:
    """Claim for no time at all, stop before a step of publishing, then try to go on."""
    with Registry(cache) as registry:
        claim = registry.claim(X, timeout=timedelta(0))
        assert isinstance(claim, Claim)
        original = getattr(Files, step)

        def stop_first(*args: object) -> object:
            os.kill(os.getpid(), signal.SIGSTOP)
            return original(*args)

        setattr(Files, step, stop_first)
        try:
            claim.publish(b"the late one's")
        except ClaimLost as lost:
            return str(lost)
    return "published"


@pytest.mark.parametrize("step", ["write", "sync", "rename", "sync_folder"])
def test_who_was_stopped_past_its_deadline_loses_its_claim_and_leaves_no_file(
    cache: Path, crew: Crew, step: str
) -> None:
    late = crew.start(stops_past_its_deadline, cache, step)
    late.await_stopped()

    with Registry(cache) as registry:
        made = registry.get_or_prepare(X, lambda: b"the new one's")
        os.kill(late.pid, signal.SIGCONT)

        assert "was lost" in late.hear()
        assert registry.get(X) == made
        with registry.open_file(X) as file:
            assert file.read() == b"the new one's"
        assert os.listdir(cache / "artifacts") == [os.path.basename(str(made.path))]


def gets_the_new_one(line: Line, cache: Path) -> bytes:
    """Be stopped in the middle of preparing, past the deadline; the verb hides all that."""
    with Registry(cache) as registry:

        def prepare() -> bytes:
            os.kill(os.getpid(), signal.SIGSTOP)
            return b"the late one's"

        artifact = registry.get_or_prepare(X, prepare)
        with registry.open_file(artifact.id) as file:
            return file.read()


def test_get_or_prepare_answers_what_the_one_who_took_over_made(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        registry.configure(prepare_timeout=timedelta(0))
        late = crew.start(gets_the_new_one, cache)
        late.await_stopped()
        registry.get_or_prepare(X, lambda: b"the new one's")

        os.kill(late.pid, signal.SIGCONT)

        assert late.hear() == b"the new one's"


def test_a_stopped_host_within_its_deadline_is_waited_for(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        slow = crew.start(gets_the_new_one, cache)
        slow.await_stopped()

        with pytest.raises(WaitTimeout):
            registry.wait(X, timeout=timedelta(milliseconds=200))  # four looks at the holder

        os.kill(slow.pid, signal.SIGCONT)
        assert slow.hear() == b"the late one's"
