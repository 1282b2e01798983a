"""Every event in every state: the table of moves, as a table.

Here through the verbs, as a user meets it; `test_statements.py` tries each statement. What is
refused, or answered as it stands, changes nothing: all rows, the usage, the settings and the files
are compared, on a connection of the test's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from support.making import claimed, failed, prepared
from support.tables import die, files, row, snapshot

from registry import Artifact, ArtifactBusy, ArtifactId, Claim, ClaimLost, Registry

pytestmark = pytest.mark.usefixtures("clock")

# A cell is "answer" (and nothing changed) or "answer>state after". The states that differ for a
# claim have a line each:
#   nobody     no row; the token is one whose claim was lost
#   preparing  claimed by a living host, in time; the token is its own
#   overtaken  claimed by another after the first was late; the token is the first one's
#   abandoned  claimed by a host that is dead; the token is its own
#   late       claimed by a living host, past its deadline; the token is its own
#   prepared, failed (to be retried later), ripe (may be retried), hopeless (never by itself):
#              the token is one whose claim was lost
TABLE = """
          get   claim           publish            fail          release      extend
nobody    None  claim>preparing ClaimLost          ClaimLost     ClaimLost    ClaimLost
preparing as-is as-is           as-is>prepared     as-is>failed  None>nobody  None>preparing
overtaken as-is as-is           ClaimLost          ClaimLost     ClaimLost    ClaimLost
abandoned as-is claim>preparing as-is>prepared     as-is>failed  None>nobody  None>preparing
late      as-is claim>preparing as-is>prepared     as-is>failed  None>nobody  None>preparing
prepared  as-is as-is           ClaimLost          ClaimLost     ClaimLost    ClaimLost
failed    as-is as-is           ClaimLost          ClaimLost     ClaimLost    ClaimLost
ripe      as-is claim>preparing ClaimLost          ClaimLost     ClaimLost    ClaimLost
hopeless  as-is as-is           ClaimLost          ClaimLost     ClaimLost    ClaimLost

          need           prune        remove        missing      damaged      retry
nobody    None           none         False         None         None         False
preparing None           none         ArtifactBusy  None         None         False
overtaken None           none         ArtifactBusy  None         None         False
abandoned None           none         ArtifactBusy  None         None         False
late      None           none         ArtifactBusy  None         None         False
prepared  as-is>prepared it>nobody    True>nobody   None>nobody  None>nobody  False
failed    None           none         True>nobody   None         None         True>failed
ripe      None           none         True>nobody   None         None         True>failed
hopeless  None           none         True>nobody   None         None         True>failed
"""


def read_table() -> Iterator[tuple[str, str, str]]:
    """Read the table: state, event, and what is to happen."""
    for block in TABLE.strip("\n").split("\n\n"):
        header, *lines = block.splitlines()
        for line in lines:
            state, *wanted = line.split()
            yield from ((state, e, cell) for e, cell in zip(header.split(), wanted, strict=True))


CELLS = list(read_table())


@dataclass
class Scene:
    """An artifact in some state, a claim to try its token with, and who asks for all the rest."""

    cache: Path
    claim: Claim
    asker: Registry
    rival: Claim | None = None

    @property
    def id(self) -> ArtifactId:
        return self.claim.id


def set_scene(
    state: str, registry: Registry, other: Registry, id: ArtifactId, clock: FrozenDateTimeFactory
) -> Scene:
    """Bring an artifact into a state, by the verbs."""
    scene = Scene(registry.cache_dir, claimed(registry, id), other)
    if state == "preparing":
        return scene
    if state == "abandoned":
        die(scene.cache, id)
        return scene
    clock.tick(timedelta(minutes=31))
    if state != "late":
        scene.rival = claimed(other, id)
        end(scene.rival, state, clock)
    if state == "nobody":
        assert other.remove(id)
    return scene


def end(rival: Claim, state: str, clock: FrozenDateTimeFactory) -> None:
    """Let the one who took the claim over do what leads to a state."""
    match state:
        case "nobody" | "prepared":
            rival.publish(b"compiled")
        case "failed" | "hopeless":
            rival.fail("it went wrong", retryable=state == "failed")
        case "ripe":
            rival.fail("it went wrong")
            clock.tick(timedelta(minutes=15))


def spoil(scene: Scene, how: Callable[[Path], object]) -> Artifact | None:
    """Do something to every file there is, then need the artifact."""
    for name in files(scene.cache):
        path = scene.cache / "artifacts" / name
        path.chmod(0o600)
        how(path)
    return scene.asker.need(scene.id)


EVENTS: dict[str, Callable[[Scene], Any]] = {
    "get": lambda s: s.asker.get(s.id),
    "claim": lambda s: s.asker.claim(s.id),
    "publish": lambda s: s.claim.publish(b"compiled, late"),
    "fail": lambda s: s.claim.fail("too late"),
    "release": lambda s: s.claim.release(),
    "extend": lambda s: s.claim.extend(timedelta(hours=2)),
    "need": lambda s: s.asker.need(s.id),
    "prune": lambda s: s.asker.prune(cache_limit=0, min_stale_time=timedelta(0)),
    "remove": lambda s: s.asker.remove(s.id),
    "missing": lambda s: spoil(s, Path.unlink),
    "damaged": lambda s: spoil(s, lambda path: path.write_bytes(b"COMPILED")),
    "retry": lambda s: s.asker.retry(s.id),
}


def answer_of(event: str, scene: Scene) -> Any:
    try:
        return EVENTS[event](scene)
    except (ClaimLost, ArtifactBusy) as refusal:
        return type(refusal)


def matches(answer: object, wanted: str, scene: Scene) -> bool:
    """Whether an answer is what the table says."""
    match wanted:
        case "as-is":
            return isinstance(answer, Artifact) and answer == scene.asker.get(scene.id)
        case "claim":
            return isinstance(answer, Claim)
        case "it":
            return isinstance(answer, list) and [gone.id for gone in answer] == [scene.id]
        case "none":
            return answer == []
        case _:
            literal = {"None": None, "True": True, "False": False}
            named = {"ClaimLost": ClaimLost, "ArtifactBusy": ArtifactBusy}
            return answer is (literal | named)[wanted]


@pytest.mark.parametrize(("state", "event", "cell"), CELLS)
def test_each_event_in_each_state(
    state: str,
    event: str,
    cell: str,
    clock: FrozenDateTimeFactory,
    registry: Registry,
    other: Registry,
    id: ArtifactId,
) -> None:
    scene = set_scene(state, registry, other, id, clock)
    before = snapshot(scene.cache)
    clock.tick(timedelta(seconds=1))
    answer = answer_of(event, scene)
    wanted, _, state_after = cell.partition(">")
    assert matches(answer, wanted, scene), answer
    after = row(scene.cache, id)
    if state_after:
        assert (after["state"] if after else "nobody") == state_after
        assert snapshot(scene.cache) != before
    elif event in ("missing", "damaged"):
        assert snapshot(scene.cache)[:3] == before[:3]  # the files are what the test spoilt
    else:
        assert snapshot(scene.cache) == before


def test_the_table_has_every_state_and_every_event() -> None:
    pairs = [(state, event) for state, event, _ in CELLS]
    states = {state for state, _ in pairs}
    assert len(pairs) == len(set(pairs)) == len(states) * len(EVENTS) == 9 * 12


def test_a_need_changes_the_last_use_and_nothing_else(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    prepared(registry, id)
    before = row(cache, id)
    clock.tick(timedelta(seconds=5))
    registry.need(id)
    assert row(cache, id) == {**before, "last_time_needed": before["last_time_needed"] + 5_000_000}


def test_a_retry_by_hand_changes_the_count_and_the_time_of_retry_and_nothing_else(
    clock: FrozenDateTimeFactory, registry: Registry, cache: Path, id: ArtifactId
) -> None:
    failed(registry, id, retryable=False)
    before = row(cache, id)
    clock.tick(timedelta(seconds=5))
    registry.retry(id)
    now = before["last_time_failed"] + 5_000_000
    assert row(cache, id) == {**before, "num_failures": 0, "retry_at": now}
