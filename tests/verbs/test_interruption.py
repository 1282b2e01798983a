"""Ctrl-C at every effect of every verb: it propagates, leaves no claim behind, and loses no file.

A story is what a verb does, told anew for each of its effects, and cut short there: before the
effect is performed, after it (the verb does not know which), or after it and once more in what the
verb does about it. What is left is then settled by the next verb of the handle, or by closing it.
The garbage collector is off: what is released must not depend on when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.between import Perform, between
from support.making import claimed
from support.stories import STORIES, STORIES_OF_CLAIMS, Act, Scene, Story, make_maintenance_due
from support.tables import rows
from support.templates import cache_in_memory, made_cache  # noqa: F401
from support.threads import PATIENCE, crew, waiters

import registry as registry_package
from registry import ArtifactId, HandleClosed, Registry, State, WaitTimeout
from registry.effects import Effect, OpenFile, Unlink
from registry.verbs import waiting_room

NOW = timedelta(0)
UNHEARD_OF = ArtifactId.of(b"unheard of")
MODES = ["before", "after", "twice"]


@pytest.fixture(autouse=True)
def _no_garbage_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def interrupts(number: int, mode: str) -> Callable[[int, Effect[Any], Perform], Any]:
    """Press Ctrl-C at one effect, or at it and the one that follows."""

    def act(at: int, effect: Effect[Any], perform: Perform) -> Any:
        if at == number or (mode == "twice" and at == number + 1):
            answer = None if mode == "before" else perform(effect)
            if isinstance(effect, OpenFile) and answer is not None:
                answer.close()  # nobody else ever will
            raise KeyboardInterrupt
        return perform(effect)

    return act


def cut_short(registry: Registry, number: int, mode: str, act: Act) -> bool:
    """Whether the Ctrl-C came through; False: it has fewer effects than that."""
    try:
        with between(registry, interrupts(number, mode)):
            act()
    except KeyboardInterrupt:
        return True
    return False


def claims_of(registry: Registry, cache: Path) -> list[str]:
    return [r["path"] for r in rows(cache) if r["host_id"] == registry._handle.host_id]


def works_on(registry: Registry, id: ArtifactId, *, orphans: bool = False) -> None:
    """Nothing is lost but work: what is there is whole, and what is garbage is swept."""
    assert {problem.kind for problem in registry.check(checksums=True).problems} <= {
        *(("orphan_file",) if orphans else ()),
        "damaged_file",  # the story's own
        "dead_host",  # as are these
        "abandoned_claim",
    }
    registry.check(repair=True, checksums=True)
    assert registry.check(checksums=True).ok
    registry.retry(id)
    artifact = registry.get_or_prepare(id, lambda: b"artifact", timeout=NOW)
    assert artifact.state is State.PREPARED
    assert artifact.num_failures == 0
    with registry.open_file(id) as file:
        assert file.read() in (b"artifact", b"x" * 1024)
    registry.prune(cache_limit=0, min_stale_time=NOW)  # the next telling starts anew


def may_leave_files(story: Story, mode: str) -> bool:
    """Where Ctrl-C came into what a verb does about Ctrl-C, or the story begins with garbage."""
    return mode == "twice" or story.__name__ in {"mending", "maintaining"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_next_verb_settles_what_an_interruption_left(
    registry: Registry,
    other: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
    story: Story,
    mode: str,
) -> None:
    for number in count():
        scene = Scene(registry, other, cache, new_id())
        act = story(scene)
        was_cut_short = cut_short(registry, number, mode, act)
        del act  # and with it the Claim, where there is one
        for handle in (registry, other):
            handle.retry(UNHEARD_OF)
            assert claims_of(handle, cache) == [], number
        works_on(registry, scene.id, orphans=may_leave_files(story, mode))
        if not was_cut_short:
            break
    assert number > 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("story", STORIES_OF_CLAIMS, ids=lambda story: story.__name__)
def test_closing_settles_what_an_interruption_left(
    other: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
    story: Story,
    mode: str,
) -> None:
    for number in count():
        with Registry(cache) as registry:
            scene = Scene(registry, other, cache, new_id())
            act = story(scene)
            was_cut_short = cut_short(registry, number, mode, act)
        del act
        assert claims_of(registry, cache) == [], number
        if not was_cut_short:
            break
    works_on(other, scene.id, orphans=may_leave_files(story, mode))


@pytest.mark.parametrize("mode", ["before", "after"])
def test_files_whose_rows_are_known_to_be_gone_are_unlinked_all_the_same(
    registry: Registry, new_id: Callable[[], ArtifactId], mode: str
) -> None:
    """Else Ctrl-C in a long prune would leave them on the disk until the next maintenance."""
    for number in range(3):
        for _ in range(3):
            claimed(registry, new_id()).publish(b"artifact")
        unlinked, interrupt = count(), interrupts(number, mode)

        def act(_number: int, effect: Effect[Any], perform: Perform) -> Any:
            if not isinstance(effect, Unlink):
                return perform(effect)
            return interrupt(next(unlinked), effect, perform)  # noqa: B023 - called at once

        with between(registry, act), pytest.raises(KeyboardInterrupt):
            registry.prune(cache_limit=0, min_stale_time=NOW)
        assert registry.stats().prepared_count == 0
        assert registry.check().ok


# --- within the verbs themselves ----------------------------------------------------------------

PACKAGE = str(Path(registry_package.__file__).parent)
# Not what performs effects: and a trace, unlike a signal, may come between the body of a `with`,
# or of a `try`, and what ends it.
EFFECTS = (
    f"{PACKAGE}/world/",
    f"{PACKAGE}/recursion.py",
    f"{PACKAGE}/verbs/waiting_room.py",
)
LINES: list[Story] = [
    story
    for story in STORIES_OF_CLAIMS
    if story.__name__ in {"claiming", "leaving_a_claim", "preparing"}
]


class CtrlC:
    """Press Ctrl-C at one line of ours, whichever comes to be executed as that number."""

    def __init__(self, number: int) -> None:
        self._left = number + 1
        self._before = sys.gettrace()

    @property
    def came(self) -> bool:
        return self._left <= 0

    def __enter__(self) -> CtrlC:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or file.startswith(EFFECTS):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self._trace


@pytest.mark.parametrize("story", LINES, ids=lambda story: story.__name__)
def test_the_next_verb_settles_what_was_cut_off_at_any_line(
    registry: Registry,
    other: Registry,
    cache: Path,
    new_id: Callable[[], ArtifactId],
    story: Story,
) -> None:
    """A verb that its driver lost is not told; its claim is an orphan all the same."""
    for number in count():
        scene = Scene(registry, other, cache, new_id())
        act = story(scene)
        with suppress(KeyboardInterrupt), CtrlC(number) as ctrl_c:
            act()
        del act
        registry.retry(UNHEARD_OF)
        assert claims_of(registry, cache) == [], number
        if number % 10 == 0 or not ctrl_c.came:
            works_on(registry, scene.id, orphans=True)
        if not ctrl_c.came:
            break
    assert number > 100


def test_who_is_cut_off_at_any_line_of_waiting_keeps_nobody_else_waiting(
    registry: Registry, other: Registry, id: ArtifactId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who leads, and is cut off as it leaves, is no leader any more after a while."""
    monkeypatch.setattr(waiting_room, "LOST_AFTER_SECONDS", 0.0)
    for number in count():
        claim = claimed(other, id)
        with suppress(KeyboardInterrupt, WaitTimeout), CtrlC(number) as ctrl_c:
            registry.wait(id, timeout=timedelta(milliseconds=1))
        with waiters() as waiting, crew(1) as pool:
            waiter = pool.submit(registry.wait, id)
            waiting.await_(1)
            claim.release()
            assert waiter.result(PATIENCE) is None, number
        if not ctrl_c.came:
            break
    assert number > 50


# --- opening and closing ------------------------------------------------------------------------


def descriptors(cache: Path) -> list[str]:
    """What of a cache is open here; SQLite itself keeps some of the database's for later."""
    opened = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return sorted(name for name in opened if str(cache) in name and "registry.db" not in name)


def interrupt_openings(monkeypatch: pytest.MonkeyPatch, number: int, mode: str) -> None:
    """Press Ctrl-C in whichever handle performs that effect next."""
    act, numbers, perform = interrupts(number, mode), count(), Registry._perform
    monkeypatch.setattr(
        Registry,
        "_perform",
        lambda self, effect: act(next(numbers), effect, partial(perform, self)),
    )


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_opening_leaves_no_host(
    registry: Registry, cache: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors(cache)
    for number in count():
        was_cut_short = True
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            interrupt_openings(patch, number, mode)
            Registry(cache).close()
            was_cut_short = False
        assert descriptors(cache) == before
        assert {path.stem for path in (cache / "hosts").iterdir()} == {registry._handle.host_id}
        with Registry(cache) as other:  # opening reaps
            assert len(other.hosts()) == 2
            assert other.check().ok
        if not was_cut_short:
            break
    assert number > 1


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_closing_leaves_no_claim(
    registry: Registry, cache: Path, new_id: Callable[[], ArtifactId], mode: str
) -> None:
    before = descriptors(cache)
    for number in count():
        closed, claimed_id = Registry(cache), new_id()
        claim = claimed(closed, claimed_id)
        make_maintenance_due(cache)
        was_cut_short = cut_short(closed, number, mode, closed.close)
        with pytest.raises(HandleClosed):
            claim.publish(b"artifact")
        assert descriptors(cache) == before
        if mode != "twice":
            assert claims_of(closed, cache) == [], number
        # Twice, and a claim may be left; but its host is dead, and nobody waits for it.
        works_on(registry, claimed_id)
        if not was_cut_short:
            break
    assert number > 1
