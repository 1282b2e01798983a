"""The errors: one base, every one exported, every one saying what it is for."""

from __future__ import annotations

import inspect
import pickle

import pytest

import registry
from registry import (
    ArtifactId,
    HandleClosed,
    HandleForked,
    NotPrepared,
    PreparationFailed,
    PrepareError,
    RegistryError,
    errors,
)

DESIGNED = [
    "InvalidId",
    "InvalidParams",
    "InvalidSetting",
    "CodeTooLarge",
    "UnknownArtifact",
    "AmbiguousPrefix",
    "ArtifactBusy",
    "ClaimLost",
    "WaitTimeout",
    "RecursivePreparation",
    "PreparationFailed",
    "PrepareError",
    "HandleClosed",
    "HandleForked",
    "WrongLoop",
    "RegistryBusy",
    "CacheDirectoryRefused",
    "OpenTimeout",
    "NotARegistry",
    "DatabaseDamaged",
    "SchemaTooNew",
    "SchemaTooOld",
    "DiskFull",
    "RegistryError",
]
OURS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not RegistryError
]


@pytest.mark.parametrize("name", DESIGNED)
def test_every_error_of_the_contract_is_exported(name: str) -> None:
    assert issubclass(getattr(registry, name), Exception)
    assert name in registry.__all__


@pytest.mark.parametrize("kind", OURS)
def test_every_error_crosses_processes(kind: type[Exception]) -> None:
    error = kind(PreparationFailed("no")) if kind is NotPrepared else kind("no")
    error.__dict__.update(note="and more")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.__dict__) == (str(error), error.__dict__)


@pytest.mark.parametrize("kind", OURS)
def test_every_error_has_our_base_and_a_sentence_for_the_user(kind: type[Exception]) -> None:
    assert issubclass(kind, RegistryError)
    assert kind.__name__ in errors.__all__
    assert (kind.__doc__ or "").split("\n")[0]
    assert kind.__doc__ != RegistryError.__doc__


def test_our_errors_are_also_what_callers_of_python_expect() -> None:
    for kind, builtin in {
        errors.InvalidId: ValueError,
        errors.InvalidParams: ValueError,
        errors.InvalidSetting: ValueError,
        errors.UnknownArtifact: LookupError,
        errors.WaitTimeout: TimeoutError,
        errors.OpenTimeout: TimeoutError,
        errors.RegistryBusy: TimeoutError,
        errors.DiskFull: OSError,
        HandleForked: HandleClosed,
    }.items():
        assert issubclass(kind, builtin)


def test_a_prepare_error_is_deterministic_unless_it_says_otherwise() -> None:
    error = PrepareError("bad code")
    assert (str(error), error.kind, error.deterministic) == ("bad code", "preparation", True)
    mild = PrepareError("busy", kind="io", deterministic=False)
    assert (mild.kind, mild.deterministic) == ("io", False)


def test_public_names_are_sorted_and_exist() -> None:
    assert list(registry.__all__) == sorted(registry.__all__)
    assert all(hasattr(registry, name) for name in registry.__all__)
    assert str(PreparationFailed("it went wrong")) == "it went wrong"
    assert ArtifactId.__module__.startswith("registry")
