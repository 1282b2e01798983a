"""Which claims nobody holds any more is known at once, however many are held."""

from __future__ import annotations

import gc

import pytest

from registry import ArtifactId
from registry.verbs.handle import Lease, OwnedClaims


def lease(number: int) -> Lease:
    return Lease(ArtifactId.of(b"%d" % number), f"token {number}", f"path {number}")


@pytest.fixture
def claims() -> OwnedClaims:
    return OwnedClaims()


@pytest.fixture
def held(claims: OwnedClaims) -> list[Lease]:
    """Three leases, held by nothing but this list."""
    leases = [lease(number) for number in range(3)]
    for number in range(3):
        claims.note(leases[number])
    return leases


def test_held_leases_are_no_orphans(claims: OwnedClaims, held: list[Lease]) -> None:
    assert claims.orphans() == []
    assert claims.all() == held


def test_a_lease_that_goes_leaves_an_orphan(claims: OwnedClaims, held: list[Lease]) -> None:
    del held[1]
    (adopted,) = claims.orphans()
    assert (adopted.token, adopted.path) == ("token 1", "path 1")
    assert claims.orphans() == []  # for it is held now


def test_an_adopted_lease_that_goes_is_an_orphan_again(
    claims: OwnedClaims, held: list[Lease]
) -> None:
    del held[1]
    claims.orphans()
    assert [one.token for one in claims.orphans()] == ["token 1"]


def test_a_lease_in_a_cycle_is_an_orphan_once_it_is_collected(
    claims: OwnedClaims, held: list[Lease]
) -> None:
    cycle: list[object] = [held.pop(0)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert [one.token for one in claims.orphans()] == ["token 0"]


def test_what_is_over_leaves_no_orphan(claims: OwnedClaims, held: list[Lease]) -> None:
    claims.end(held[1])
    del held[1]
    assert claims.orphans() == []


def test_a_dropped_claim_is_an_orphan_though_its_lease_is_held(
    claims: OwnedClaims, held: list[Lease]
) -> None:
    claims.drop(held[0])
    (adopted,) = claims.orphans()
    assert adopted.token == "token 0"
    held.pop(0)  # the old lease is nobody's concern any more
    assert claims.orphans() == []


def test_a_dropped_claim_that_was_ended_after_all_is_no_orphan(
    claims: OwnedClaims, held: list[Lease]
) -> None:
    claims.drop(held[0])
    claims.end(held[0])
    assert claims.orphans() == []


def test_closing_adopts_what_nobody_holds(claims: OwnedClaims, held: list[Lease]) -> None:
    del held[1]
    assert sorted(one.token for one in claims.all()) == ["token 0", "token 1", "token 2"]
