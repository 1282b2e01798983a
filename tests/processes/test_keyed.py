"""Single flight over get and put, between real processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from processes.crew import Crew, Line, first_of, say_when_waiting
from processes.traces import assert_clean, lines, note
from registry import Registry, process_handles
from registry.keyed import Keyed, KeyedStats


@pytest.fixture(autouse=True)
def handles_closed(cache: Path) -> Iterator[None]:
    """Close the handle that this process has on the cache, before that is looked at."""
    yield
    for key in list(process_handles._handles):
        process_handles._handles.pop(key).close()


def compile_all(line: Line, cache: Path, log: Path, keys: int) -> KeyedStats:
    """Compile what is missing; what was compiled here is in the log."""
    keyed = Keyed("test", cache)
    line.ask("ready")
    for key in range(keys):
        with keyed.flight():
            found = keyed.get(f"key {key}")
            if found is None:
                note(log, key)
                assert keyed.put(f"key {key}", b"code %d" % key)
            else:
                assert found == b"code %d" % key
    return keyed.stats


@pytest.mark.parametrize("number", [4, 8])
def test_processes_that_miss_at_once_compile_each_key_once(
    cache: Path, crew: Crew, tmp_path: Path, number: int
) -> None:
    log = tmp_path / "compilations"
    children = [crew.start(compile_all, cache, log, 20) for _ in range(number)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell()

    done = [child.last_word() for child in children]

    assert sorted(map(int, lines(log))) == list(range(20))
    assert sum(stats.claims for stats in done) == sum(stats.puts for stats in done) == 20
    assert sum(stats.hits for stats in done) == 20 * (number - 1)
    assert sum(stats.errors for stats in done) == 0
    assert len(assert_clean(cache)) == 20


def hold(line: Line, cache: Path, puts: bool) -> bool:
    """Claim by a miss; put or leave when told."""
    keyed = Keyed("test", cache)
    with keyed.flight():
        assert keyed.get("key") is None
        line.ask("claimed")
        return puts and keyed.put("key", b"code")


def join(line: Line, cache: Path, puts: bool) -> tuple[bytes | None, KeyedStats]:
    """Miss what another has claimed; say when waiting, and what came of it."""
    keyed = Keyed("test", cache)
    say_when_waiting(line)
    with keyed.flight():
        found = keyed.get("key")
        if found is None:
            line.ask("compiles")
            if puts:
                keyed.put("key", b"code")
        return found, keyed.stats


def test_a_release_without_a_put_lands_all_who_wait_at_once(cache: Path, crew: Crew) -> None:
    holder = crew.start(hold, cache, False)
    holder.expect("claimed")
    waiters = [crew.start(join, cache, True) for _ in range(4)]
    for waiter in waiters:
        waiter.expect("waiting")

    holder.tell()

    for waiter in waiters:  # each compiles, before any other has put
        waiter.expect("compiles")
    for waiter in waiters:
        waiter.tell()
    done = [waiter.last_word() for waiter in waiters]
    assert [(found, stats.landed, stats.claims) for found, stats in done] == [(None, 1, 0)] * 4
    assert Keyed("test", cache).get("key") == b"code"


def test_after_a_holders_death_exactly_one_claims_anew(cache: Path, crew: Crew) -> None:
    holder = crew.start(hold, cache, False)
    holder.expect("claimed")
    waiters = [crew.start(join, cache, True) for _ in range(4)]
    for waiter in waiters:
        waiter.expect("waiting")

    crew.bury(holder)

    compiling = first_of(waiters)
    compiling.expect("compiles")
    compiling.tell()
    done = [waiter.last_word() for waiter in waiters]
    assert sorted(str(found) for found, _ in done) == ["None", *["b'code'"] * 3]
    assert sum(stats.claims for _, stats in done) == 1


def cross(line: Line, cache: Path, first: str, second: str) -> KeyedStats:
    """Hold one key, and then miss one that another holds."""
    outer, inner = Keyed("test", cache), Keyed("test", cache)
    with outer.flight():
        assert outer.get(first) is None
        line.ask("claimed")
        with inner.flight():
            assert inner.get(second) is None
            line.ask("missed")
            inner.put(second, b"code")
        outer.put(first, b"code")
    return inner.stats


def test_crossed_flights_do_not_wait_for_each_other(cache: Path, crew: Crew) -> None:
    children = [crew.start(cross, cache, *pair) for pair in [("a", "b"), ("b", "a")]]
    for child in children:
        child.expect("claimed")
    for child in children:
        child.tell()
    for child in children:
        child.expect("missed")
    for child in children:
        child.tell()

    assert [child.last_word().waits for child in children] == [0, 0]
    keyed = Keyed("test", cache)
    assert (keyed.get("a"), keyed.get("b")) == (b"code", b"code")


def put_late(line: Line, cache: Path) -> tuple[bool, KeyedStats]:
    keyed = Keyed("test", cache)
    with keyed.flight():
        assert keyed.get("key") is None
        line.ask("claimed")
        return keyed.put("key", b"late"), keyed.stats


def test_who_has_waited_long_enough_compiles_and_a_put_beside_a_claim_is_not_stored(
    cache: Path, crew: Crew
) -> None:
    holder = crew.start(hold, cache, True)
    holder.expect("claimed")
    keyed = Keyed("test", cache, patience=timedelta(milliseconds=50))

    with keyed.flight():
        assert keyed.get("key") is None
        assert not keyed.put("key", b"mine")

    assert (keyed.stats.waits, keyed.stats.landed, keyed.stats.claims) == (1, 1, 0)
    holder.tell()
    assert holder.last_word()
    assert keyed.get("key") == b"code"


def test_a_put_whose_claim_was_taken_over_is_fenced(cache: Path, crew: Crew) -> None:
    with Registry(cache) as registry:
        registry.configure(prepare_timeout=timedelta(seconds=1))
    holder = crew.start(put_late, cache)
    holder.expect("claimed")
    keyed = Keyed("test", cache)

    with keyed.flight():
        assert keyed.get("key") is None  # waits for the deadline of the other
        assert keyed.stats.claims == 1
        holder.tell()
        stored, stats = holder.last_word()
        assert keyed.put("key", b"code")

    assert (stored, stats.fenced) == (False, 1)
    assert keyed.get("key") == b"code"


def fork_inside(line: Line, cache: Path) -> list[object]:
    """Fork in a flight that holds a claim; what the child meets there."""
    keyed = Keyed("test", cache)
    out, into = os.pipe()
    with keyed.flight():
        assert keyed.get("key") is None
        child = os.fork()
        if child == 0:
            words: list[object] = []
            try:
                words.append(keyed.get("key"))  # its parent waits for it: it does not wait
                words.append(keyed.put("key", b"the child's"))
                with keyed.flight():
                    words += [keyed.get("another"), keyed.put("another", b"code")]
                words.append(keyed.get("another"))
            finally:
                os.write(into, repr(words).encode())
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        heard = os.read(out, 1000).decode()
        return [heard, keyed.put("key", b"the parent's"), keyed.get("key")]


def test_a_fork_in_a_flight_holds_nothing_of_its_parents(cache: Path, crew: Crew) -> None:
    child = crew.start(fork_inside, cache)

    heard, stored, found = child.last_word()

    assert heard == repr([None, False, None, True, b"code"])
    assert (stored, found) == (True, b"the parent's")
