"""Every interleaving of a few hosts, with a kill at any point, a lie, or a minute that passes."""

from __future__ import annotations

import pytest

from .cases import CASES, LONG_CASES
from .exhaustive import walk
from .length import LONG


@pytest.mark.parametrize("case", CASES)
def test_no_order_of_effects_breaks_a_promise(case: str) -> None:
    figures = walk(CASES[case])
    assert figures.ends > 1
    assert figures.states < figures.transitions
    print(figures)


@pytest.mark.skipif(not LONG, reason="takes many minutes: set REGISTRY_SIMULATE=long")
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("case", LONG_CASES)
def test_no_order_of_the_effects_of_many_breaks_a_promise(case: str) -> None:
    print(walk(LONG_CASES[case]))
