"""The cases of the exhaustive walks: who does what, and what may befall them."""

from __future__ import annotations

from collections.abc import Mapping

from .exhaustive import Case
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

__all__ = ["CASES", "LONG_CASES"]

TWO = {"first": publisher, "second": publisher}
PRUNER, SWEEPER, REAPER = {"pruner": pruner}, {"sweeper": sweeper}, {"reaper": reaper}
ALL_FIVE = {**TWO, **PRUNER, **SWEEPER, **REAPER}

# Seconds each.
CASES: Mapping[str, Case] = {
    "two claim, one prunes, one sweeps, and one is killed anywhere": Case(
        {**TWO, **PRUNER, **SWEEPER}, kills=1
    ),
    "two claim, one reaps, and one is killed anywhere": Case({**TWO, **REAPER}, kills=1),
    "three claim": Case({**TWO, "third": publisher}),
    "two claim, and a deadline passes": Case(TWO, minutes=1),
    "one extends its claim when its deadline passes": Case(
        {"extender": extender, "publisher": publisher}, minutes=1
    ),
    "one fails, one claims, one sweeps, and one is killed anywhere": Case(
        {"failer": failer, "publisher": publisher, **SWEEPER}, kills=1
    ),
    "one claims, one reaps, one sweeps, and one is taken for dead": Case(
        {"publisher": publisher, **REAPER, **SWEEPER}, lies=1
    ),
    "one needs what others remove, prune and prepare": Case(
        {"needer": needer, "remover": remover, "publisher": publisher, **PRUNER}, before=publisher
    ),
}
# Many minutes each.
LONG_CASES: Mapping[str, Case] = {
    "two claim, one prunes, one sweeps, one reaps, and one is killed": Case(ALL_FIVE, kills=1),
    "two claim, one prunes, one sweeps, one reaps, one is taken for dead": Case(ALL_FIVE, lies=1),
    "two claim, one prunes, one sweeps, and two are killed": Case(
        {**TWO, **PRUNER, **SWEEPER}, kills=2
    ),
    "two claim, one sweeps, a deadline passes, and one is killed": Case(
        {**TWO, **SWEEPER}, minutes=1, kills=1
    ),
    "three claim, one reaps, and two are killed": Case(
        {**TWO, "third": publisher, **REAPER}, kills=2
    ),
}
