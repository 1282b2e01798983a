"""Every interleaving of a few hosts, with a kill at any point, a lie, or a minute that passes."""

from __future__ import annotations

import pytest

from .exhaustive import Case, walk
from .length import LONG
from .programs import (
    extender,
    failer,
    needer,
    pruner,
    publisher,
    reaper,
    remover,
    sweeper,
)

TWO = {"first": publisher, "second": publisher}
PRUNER, SWEEPER, REAPER = {"pruner": pruner}, {"sweeper": sweeper}, {"reaper": reaper}
ALL_FIVE = {**TWO, **PRUNER, **SWEEPER, **REAPER}

CASES = {
    "two claim, one prunes": Case({**TWO, **PRUNER}, kills=1),
    "two claim, one sweeps": Case({**TWO, **SWEEPER}, kills=1),
    "two claim, one reaps": Case({**TWO, **REAPER}, kills=1),
    "three claim": Case({**TWO, "third": publisher}),
    "two claim, and a deadline passes": Case(TWO, minutes=1),
    "one extends its claim when its deadline passes": Case(
        {"extender": extender, "publisher": publisher}, minutes=1
    ),
    "one fails, one sweeps": Case({"failer": failer, "publisher": publisher, **SWEEPER}, kills=1),
    "one is taken for dead": Case({"publisher": publisher, **REAPER, **SWEEPER}, lies=1),
    "one needs what others remove, prune and prepare": Case(
        {"needer": needer, "remover": remover, "publisher": publisher, **PRUNER}, before=publisher
    ),
}
LONG_CASES = {
    "all five, one is killed": Case(ALL_FIVE, kills=1),
    "all five, one is taken for dead": Case(ALL_FIVE, lies=1),
    "two claim, one sweeps, and a deadline passes": Case({**TWO, **SWEEPER}, minutes=1, kills=1),
    "three claim, one reaps, two are killed": Case({**TWO, "third": publisher, **REAPER}, kills=2),
}


@pytest.mark.parametrize("case", CASES)
def test_no_order_of_effects_breaks_a_promise(case: str) -> None:
    figures = walk(CASES[case])
    assert figures.ends > 1
    assert figures.states < figures.transitions


@pytest.mark.skipif(not LONG, reason="takes many minutes: set REGISTRY_SIMULATE=long")
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("case", LONG_CASES)
def test_no_order_of_the_effects_of_many_breaks_a_promise(case: str) -> None:
    print(walk(LONG_CASES[case]))
