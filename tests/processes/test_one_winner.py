"""However many processes and threads ask for an artifact, one of them prepares it."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes.crew import Crew, Line, say_when_waiting
from processes.traces import assert_clean, claimed, code_id, lines, note
from registry import Artifact, Claim, Registry


def tries_every_key(line: Line, cache: Path, log: Path, keys: int, seed: int) -> int:
    """Get or prepare every key, in an order of its own; what it prepared is in the log."""
    order = random.Random(seed).sample(range(keys), keys)
    with Registry(cache) as registry:
        line.ask("ready")
        for key in order:

            def prepare(key: int = key) -> bytes:
                note(log, key)
                return b"artifact %d" % key

            artifact = registry.get_or_prepare(code_id(key), prepare)
            with registry.open_file(artifact.id) as file:
                assert file.read() == b"artifact %d" % key
    return keys


def test_eight_processes_that_all_want_two_hundred_artifacts_prepare_each_once(
    cache: Path, crew: Crew, tmp_path: Path
) -> None:
    log = tmp_path / "preparations"
    children = [crew.start(tries_every_key, cache, log, 200, seed) for seed in range(8)]
    for child in children:
        child.expect("ready")

    for child in children:
        child.tell()

    assert [child.hear() for child in children] == [200] * 8  # and nobody met a locked database
    assert sorted(map(int, lines(log))) == list(range(200))
    assert len(assert_clean(cache)) == 200


def claims_every_key(line: Line, cache: Path, keys: int) -> list[int]:
    """Claim every key and publish what it won."""
    won = []
    with Registry(cache) as registry:
        line.ask("ready")
        for key in range(keys):
            claim = registry.claim(code_id(key))
            if isinstance(claim, Claim):
                won.append(key)
                claim.publish(b"x")
    return won


def test_processes_that_claim_in_the_same_order_share_the_claims_out(
    cache: Path, crew: Crew
) -> None:
    children = [crew.start(claims_every_key, cache, 100) for _ in range(4)]
    for child in children:
        child.expect("ready")

    for child in children:
        child.tell()

    won = [key for child in children for key in child.hear()]
    assert sorted(won) == list(range(100))


def never() -> bytes:
    raise AssertionError("somebody else prepares this")


def waits(line: Line, cache: Path, threads: int) -> list[str]:
    """Let so many threads of one handle wait for the one artifact; the paths that they got."""
    say_when_waiting(line, threads)
    threading.stack_size(256 * 1024)
    with Registry(cache) as registry, ThreadPoolExecutor(threads) as pool:

        def get() -> Artifact:
            return registry.get_or_prepare(code_id("x"), never)

        running = [pool.submit(get) for _ in range(threads)]
        return sorted({str(one.result().path) for one in running})


def test_a_thousand_threads_and_six_processes_wait_for_one_preparation(
    cache: Path, crew: Crew
) -> None:
    with Registry(cache) as registry:
        claim = claimed(registry, code_id("x"))
        children = [crew.start(waits, cache, threads) for threads in (1000, 1, 1, 1, 2, 3)]
        for child in children:
            child.expect("waiting")

        made = claim.publish(b"the only one")

        assert [child.hear() for child in children] == [[str(made.path)]] * 6


def test_many_handles_of_one_process_are_many_hosts(cache: Path) -> None:
    handles = [Registry(cache) for _ in range(20)]
    try:
        claims = [claimed(handle, code_id(n)) for n, handle in enumerate(handles)]
        assert len({host.id for host in handles[0].hosts()}) == 20
        for n, handle in enumerate(handles):
            other = handle.claim(code_id((n + 1) % 20))
            assert isinstance(other, Artifact)
            assert other.holder is not None
            assert other.holder.host_id == claims[(n + 1) % 20].artifact.holder.host_id
        for claim in claims:
            claim.publish(b"x")
    finally:
        for handle in handles:
            handle.close()


def shares(line: Line, cache: Path, log: Path, keys: int, threads: int) -> None:
    """Many threads of one handle, each after every key."""
    with Registry(cache) as registry, ThreadPoolExecutor(threads) as pool:
        line.ask("ready")

        def work(mine: int) -> None:
            for key in random.Random(mine).sample(range(keys), keys):

                def prepare(key: int = key) -> bytes:
                    note(log, key)
                    return b"x"

                registry.get_or_prepare(code_id(key), prepare)

        list(pool.map(work, range(threads)))


def test_threads_of_several_processes_prepare_each_once(
    cache: Path, crew: Crew, tmp_path: Path
) -> None:
    log = tmp_path / "preparations"
    children = [crew.start(shares, cache, log, 40, 12) for _ in range(3)]
    for child in children:
        child.expect("ready")

    for child in children:
        child.tell()

    assert [child.hear() for child in children] == [None] * 3
    assert sorted(map(int, lines(log))) == list(range(40))
