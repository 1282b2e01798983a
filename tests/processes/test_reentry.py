"""Re-entry: signal handlers, the garbage collector and forks of C code, in the middle of anything.

Each story is told by a process of its own, for it has real signals: a deadlock ends that process,
and the test, with a traceback of where it hangs.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from processes.crew import PATIENCE
from processes.traces import assert_clean, claimed, code_id, query
from registry import (
    ArtifactId,
    AsyncRegistry,
    Claim,
    HandleClosed,
    HandleForked,
    OpenTimeout,
    RecursivePreparation,
    Registry,
    State,
    prepared,
)
from registry.opening.lock import in_turn, undisturbed
from registry.world import fork

NOW = timedelta(0)
HOUR = timedelta(hours=1)


def tell(story: Callable[[Path], None], cache: Path, *args: object) -> str:
    """Let a process of its own tell a story of this module; answer what it printed."""
    program = (
        "import sys; from pathlib import Path; from processes import test_reentry\n"
        f"test_reentry.{story.__name__}(Path(sys.argv[1]), *sys.argv[2:])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(cache), *map(str, args)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    assert told.returncode == 0, told.stderr[-4000:]
    return told.stdout


def work(registry: Registry, number: int) -> None:
    """Use one verb or the other, so that a signal comes in the middle of any."""
    one = code_id(number % 20)
    match number % 6:
        case 0 | 1:
            registry.get_or_prepare(one, lambda: b"artifact", timeout=HOUR)
        case 2:
            registry.need(one)
        case 3:
            registry.remove(one)
        case 4:
            claim = registry.claim(one)
            if isinstance(claim, Claim):
                claim.publish(b"artifact")
        case _:
            registry.prune(cache_limit=0, min_stale_time=NOW)


# --- signal handlers ----------------------------------------------------------------------------


def handlers(registry: Registry, cache: Path) -> dict[str, Callable[[], Any]]:
    """What a signal handler may do with the handle that it interrupts."""
    numbers = iter(range(10**9))

    @prepared(version=1, cache=cache, name="built in a signal handler")
    def build(number: int) -> bytes:
        return b"%d" % number

    def in_the_handler() -> ArtifactId:
        return code_id(("in the handler", next(numbers)))

    def claim_and_publish() -> None:
        with claimed(registry, in_the_handler()) as claim:
            claim.publish(b"artifact")

    def fork_a_child() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    return {
        "get": lambda: registry.get(code_id(1)),
        "need": lambda: registry.need(code_id(1)),
        "stats": registry.stats,
        "get_or_prepare": lambda: registry.get_or_prepare(in_the_handler(), lambda: b"artifact"),
        "prepared": lambda: build(next(numbers)),
        "claim": claim_and_publish,
        "prune": lambda: registry.prune(cache_limit=0, min_stale_time=NOW),
        "fork": fork_a_child,
        "open": lambda: Registry(cache).close(),
    }


def interrupts_itself(cache: Path, verb: str) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    random.seed(verb)
    came = 0
    with Registry(cache) as registry:
        act = handlers(registry, cache)[verb]
        act()  # imports and opens what it needs

        def handle(*_: object) -> None:
            nonlocal came
            act()
            came += 1
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        number = 0
        while came < 60:
            number += 1
            work(registry, number)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a last handler may start the timer anew
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert registry.check().ok


@pytest.mark.parametrize(
    "verb",
    ["get", "need", "stats", "get_or_prepare", "prepared", "claim", "prune", "fork", "open"],
)
def test_a_signal_handler_uses_the_handle_that_it_interrupts(cache: Path, verb: str) -> None:
    tell(interrupts_itself, cache, verb)


def asks_for_what_it_interrupts(cache: Path) -> None:
    """Ask in the handler for the artifact that is just being published, or is claimed next."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    random.seed(0)
    refused = came = 0
    wanted = code_id(0)

    def handle(*_: object) -> None:
        nonlocal came, refused
        came += 1
        try:
            assert registry.get_or_prepare(wanted, lambda: b"artifact").state is State.PREPARED
        except RecursivePreparation:
            refused += 1
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003))

    with Registry(cache) as registry:
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        number = 0
        while came < 100 or refused < 5:
            number += 1
            wanted = code_id(number)
            registry.get_or_prepare(wanted, lambda: b"artifact")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a last handler may start the timer anew
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert registry.stats().prepared_count == number
        assert registry.check().ok


def test_a_signal_handler_does_not_wait_for_what_it_interrupts(cache: Path) -> None:
    tell(asks_for_what_it_interrupts, cache)


def closes_in_a_handler(cache: Path, raises: str) -> None:
    """Close at a random moment, fifty times; what is interrupted ends by itself, or is cut off."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    random.seed(raises)
    with Registry(cache) as other:
        for _ in range(50):
            registry = Registry(cache)
            claim = claimed(registry, code_id("held"))
            try:
                close_soon(registry, raises == "raises")
                for number in range(10**9):
                    work(registry, number)
            except (HandleClosed, SystemExit):
                pass
            assert other.get(claim.id) is None, "its claims were given back, without a failure"
            assert len(other.hosts()) == 1
            assert not list(other.artifacts(state=State.PREPARING))
            with pytest.raises(HandleClosed):
                claim.publish(b"artifact")
        assert sorted(opened(cache)) == ["artifacts", "hosts", "hosts"], "the other's"


def close_soon(registry: Registry, raises: bool) -> None:
    def handle(*_: object) -> None:
        registry.close()
        if raises:
            raise SystemExit

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.01))


def opened(cache: Path) -> list[str]:
    """In which folders of a cache this process has something open, or those themselves."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    paths = [os.readlink(link) for link in links if os.path.lexists(link)]
    inside = [path.removeprefix(f"{cache}/") for path in paths if path.startswith(f"{cache}/")]
    return [path.partition("/")[0] for path in inside if not path.startswith("registry.db")]


@pytest.mark.parametrize("raises", ["returns", "raises"])
def test_a_signal_handler_closes_the_handle_that_it_interrupts(cache: Path, raises: str) -> None:
    tell(closes_in_a_handler, cache, raises)
    assert list((cache / "hosts").iterdir()) == []


def exits_in_a_handler(cache: Path) -> None:
    registry = Registry(cache)
    claim = claimed(registry, code_id("held"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    for number in range(10**9):
        work(registry, number)
    claim.release()


@pytest.mark.parametrize("_", range(3))
def test_an_exit_in_a_signal_handler_gives_the_claims_back(cache: Path, _: int) -> None:
    tell(exits_in_a_handler, cache)
    assert query(cache, "SELECT state FROM artifact WHERE state != 'prepared'") == []
    assert query(cache, "SELECT id FROM host") == []
    assert list((cache / "hosts").iterdir()) == []


def test_a_thread_that_makes_a_cache_refuses_to_open_it_once_more(cache: Path) -> None:
    """As a signal handler does that interrupts it; to wait would be to wait for itself."""
    with Registry(cache):
        pass
    with pytest.raises(OpenTimeout, match="this signal handler"):
        in_turn(cache, lambda: Registry(cache))
    with (
        undisturbed(cache),
        pytest.raises(OpenTimeout, match="this signal handler"),
    ):
        in_turn(cache, lambda: None)
    with undisturbed(cache):
        Registry(cache).close()


# --- the garbage collector ----------------------------------------------------------------------


class Service:
    """Drops its handle in a cycle, which only the garbage collector finds."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.me = self


def collects_under_a_lock(cache: Path) -> None:
    """Collect a handle in the thread that holds the database, as in the middle of a fetch."""
    import sqlite3

    gc.disable()
    with Registry(cache) as other:
        service = Service(Registry(cache))
        claim = claimed(service.registry, code_id("held"))
        lock = sqlite3.connect(cache / "registry.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        del service, claim
        gc.collect()
        held = other.get(code_id("held"))
        assert held is not None, "nobody waits for the lock here, and so nothing was given back"
        lock.execute("ROLLBACK")
        lock.close()
        while other.get(code_id("held")) is not None or len(other.hosts()) > 1:
            found = other.get(code_id("held"))
            assert found is None or found.state is State.PREPARING, "it was no failure"


def test_a_handle_that_is_collected_waits_for_nothing(cache: Path) -> None:
    tell(collects_under_a_lock, cache)


def drops_at_the_end(cache: Path) -> None:
    gc.disable()
    service = Service(Registry(cache))
    claim = claimed(service.registry, code_id("held"))
    del service, claim
    gc.collect()  # and at once the end


def test_what_was_dropped_is_cleaned_up_before_the_process_ends(cache: Path) -> None:
    tell(drops_at_the_end, cache)
    assert query(cache, "SELECT state FROM artifact") == []
    assert query(cache, "SELECT id FROM host") == []


# --- forks --------------------------------------------------------------------------------------


def fork_of_c() -> int:
    """Fork as C code does (uWSGI): none of Python's hooks runs."""
    child: int = ctypes.PyDLL(None).fork()
    return child


def in_a_child(act: Callable[[], None]) -> None:
    """Do something in the child of such a fork."""
    child = fork_of_c()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def refuses_all(registry: Registry, claim: Claim, pages: Iterator[Any]) -> None:
    one = code_id("parent")
    verbs: list[Callable[[], Any]] = [
        *(lambda verb=verb: verb(one) for verb in (registry.get, registry.need, registry.claim)),
        *(lambda verb=verb: verb(one) for verb in (registry.remove, registry.retry)),
        *(registry.stats, registry.check, registry.hosts, registry.settings, registry.maintain),
        *(registry.prune, registry.diagnose, registry.measure, lambda: registry.counters),
        lambda: registry.get_or_prepare(one, lambda: b"child"),
        lambda: registry.wait(one),
        lambda: registry.open_file(one),
        lambda: registry.history(one),
        lambda: registry.find("00"),
        lambda: registry.configure(max_retries=1),
        lambda: next(pages),
        lambda: next(iter(registry.events())),
        lambda: claim.publish(b"child"),
        lambda: claim.fail("child"),
        lambda: claim.extend(HOUR),
        claim.release,
    ]
    for verb in verbs:
        with pytest.raises(HandleForked, match="open a new one"):
            verb()


def forks_in_c(cache: Path) -> None:
    with Registry(cache) as registry, Registry(cache) as other:
        registry.get_or_prepare(code_id("parent"), lambda: b"parent")
        registry.need(code_id("parent"))  # which is hot now
        pages = registry.artifacts()
        claim = claimed(registry, code_id("held"))
        in_a_child(lambda: refuses_all(registry, claim, pages))
        in_a_child(registry.close)
        in_a_child(lambda: registry.__del__())
        in_a_child(fork._at_exit)
        assert registry.need(code_id("parent")) is not None
        assert all(host.alive for host in other.hosts())
        claim.publish(b"the parent's")
        assert other.check(checksums=True).ok


def test_the_child_of_a_fork_of_c_is_refused_and_ends_nothing_of_its_parents(cache: Path) -> None:
    tell(forks_in_c, cache)


def exits_in_a_child_of_c(cache: Path) -> None:
    """The child leaves as a program does: what `atexit` knows runs, and all is torn down."""
    registry = Registry(cache)
    claim = claimed(registry, code_id("held"))
    child = fork_of_c()
    if child == 0:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    claim.publish(b"after the child's end")
    registry.close()


def test_a_child_of_c_that_exits_runs_no_end_of_its_parents_handles(cache: Path) -> None:
    tell(exits_in_a_child_of_c, cache)
    assert [artifact.size for artifact in assert_clean(cache)] == [21]


def forks_an_async_handle_in_c(cache: Path) -> None:
    async def refuses(registry: AsyncRegistry) -> None:
        for verb in (registry.stats, registry.check, registry.hosts, registry.maintain):
            with pytest.raises(HandleForked, match="open a new one"):
                await verb()
        with pytest.raises(HandleForked):
            await registry.need(code_id("parent"))
        with pytest.raises(HandleForked):
            await registry.get_or_prepare(code_id("child"), lambda: b"child")
        await registry.close()

    async def story() -> None:
        async with AsyncRegistry(cache) as registry:
            await registry.get_or_prepare(code_id("parent"), lambda: b"parent")
            await registry.need(code_id("parent"))
            child = fork_of_c()
            if child == 0:
                status = 1
                try:
                    asyncio.run(refuses(registry))
                    with Registry(cache) as own:
                        own.get_or_prepare(code_id("child"), lambda: b"child")
                    status = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                finally:
                    os._exit(status)
            ended = await asyncio.to_thread(os.waitpid, child, 0)
            assert ended[1] == 0
            assert await registry.need(code_id("child")) is not None
            assert (await registry.check(checksums=True)).ok

    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    asyncio.run(story())


def test_an_async_handle_is_refused_in_the_child_of_a_fork_of_c(cache: Path) -> None:
    tell(forks_an_async_handle_in_c, cache)


def outlives_its_parents_handle(cache: Path) -> None:
    """A worker of uWSGI: warmed up in the master, forked by C code, and the master lets go."""

    @prepared(version=1, cache=cache, name="warmed up before the fork")
    def build(number: int) -> bytes:
        return b"%d" % number

    build(0)
    registry = Registry(cache)
    registry.get_or_prepare(code_id("parent"), lambda: b"parent")
    told_by_child, tell_parent = os.pipe()
    told_by_parent, tell_child = os.pipe()
    child = fork_of_c()
    if child == 0:
        status = 1
        try:
            build(1)
            os.write(tell_parent, b".")
            os.read(told_by_parent, 1)
            for number in range(2, 12):
                build(number)
            os.write(tell_parent, b".")
            os.read(told_by_parent, 1)
            status = 0
        finally:
            os._exit(status)
    os.read(told_by_child, 1)
    registry.close()
    fork._at_exit()  # as the master's end does
    os.write(tell_child, b".")
    os.read(told_by_child, 1)
    with Registry(cache) as third:
        assert third.stats().prepared_count == 13
        assert third.check(checksums=True).ok
        os.write(tell_child, b".")
        assert os.waitpid(child, 0)[1] == 0


def test_what_a_child_of_c_publishes_survives_its_parents_end(cache: Path) -> None:
    tell(outlives_its_parents_handle, cache)


def is_killed_in_c(cache: Path) -> None:
    """A killed worker holds nobody up: what it asked its parent's handle for was refused."""
    with Registry(cache) as registry:

        def refused() -> None:
            with pytest.raises(HandleForked):
                registry.get_or_prepare(code_id("slow"), lambda: os.abort() or b"")  # type: ignore[func-returns-value]

        in_a_child(refused)
        registry.get_or_prepare(code_id("slow"), lambda: b"parent")


def test_a_child_of_c_claims_nothing_in_its_parents_name(cache: Path) -> None:
    tell(is_killed_in_c, cache)


class CtrlC:
    """Press Ctrl-C at one line of a module, whichever comes to be executed as that number."""

    def __init__(self, file: str, number: int) -> None:
        self._file, self.left = file, number + 1

    def trace(self, frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.trace


def forks_under_ctrl_c(cache: Path) -> None:
    """Press it at each line of what is done before and after a fork, in turn."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    sys.unraisablehook = lambda _: None  # an interpreter only tells of what such a function raises
    with Registry(cache) as registry:
        number = 0
        while True:
            registry.get_or_prepare(code_id(number), lambda: b"artifact")  # opened again
            ctrl_c = CtrlC(str(fork.__file__), number)
            sys.settrace(ctrl_c.trace)
            child = os.fork()
            sys.settrace(None)
            if child == 0:
                with Registry(cache) as own:
                    own.get_or_prepare(code_id(("child", number)), lambda: b"artifact")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            thread = threading.Thread(target=registry.remove, args=(code_id(number),))
            thread.start()
            thread.join()  # for ever, where a mutex is left locked
            if ctrl_c.left > 0:
                break
            number += 1
        assert number > 10
        assert registry.stats().prepared_count == number + 1
        assert registry.check().ok


def test_ctrl_c_in_a_fork_leaves_nothing_locked(cache: Path) -> None:
    tell(forks_under_ctrl_c, cache)
