"""Each artifact compiled once per machine: a persistent, shared, bounded registry over SQLite."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from registry.artifact import Artifact, ArtifactId, Holder, State
from registry.config import CleanupConfig, RetryPolicy, Settings
from registry.errors import (
    AmbiguousPrefix,
    ArtifactBusy,
    CacheDirectoryRefused,
    ClaimLost,
    CodeTooLarge,
    DatabaseDamaged,
    DiskFull,
    ExecutionError,
    FunctionRefused,
    HandleClosed,
    HandleForked,
    InternalError,
    InvalidCandidate,
    InvalidData,
    InvalidId,
    InvalidParams,
    InvalidSetting,
    NotARegistry,
    NotPrepared,
    OpenTimeout,
    PossiblyInvalid,
    PreparationFailed,
    PrepareError,
    QueueFull,
    RecursivePreparation,
    RegistryBusy,
    RegistryError,
    SchemaTooNew,
    SchemaTooOld,
    UnknownArtifact,
    WaitTimeout,
    WrongLoop,
)
from registry.version import __version__

if TYPE_CHECKING:
    from registry.aio import AsyncClaim, AsyncRegistry
    from registry.decorator import prepared
    from registry.imports import preload
    from registry.process_handles import async_handle, handle
    from registry.recipe import AsyncRecipe, Recipe
    from registry.sync import Claim, Registry
    from registry.verbs.check import CheckReport
    from registry.verbs.history import HistoryEvent
    from registry.verbs.hosts import HostInfo
    from registry.verbs.listing import Stats

__all__ = [
    "AmbiguousPrefix",
    "Artifact",
    "ArtifactBusy",
    "ArtifactId",
    "AsyncClaim",
    "AsyncRecipe",
    "AsyncRegistry",
    "CacheDirectoryRefused",
    "CheckReport",
    "Claim",
    "ClaimLost",
    "CleanupConfig",
    "CodeTooLarge",
    "DatabaseDamaged",
    "DiskFull",
    "ExecutionError",
    "FunctionRefused",
    "HandleClosed",
    "HandleForked",
    "HistoryEvent",
    "Holder",
    "HostInfo",
    "InternalError",
    "InvalidCandidate",
    "InvalidData",
    "InvalidId",
    "InvalidParams",
    "InvalidSetting",
    "NotARegistry",
    "NotPrepared",
    "OpenTimeout",
    "PossiblyInvalid",
    "PreparationFailed",
    "PrepareError",
    "QueueFull",
    "Recipe",
    "RecursivePreparation",
    "Registry",
    "RegistryBusy",
    "RegistryError",
    "RetryPolicy",
    "SchemaTooNew",
    "SchemaTooOld",
    "Settings",
    "State",
    "Stats",
    "UnknownArtifact",
    "WaitTimeout",
    "WrongLoop",
    "__version__",
    "async_handle",
    "handle",
    "preload",
    "prepared",
]


# Imported when first asked for. SQLAlchemy, asyncio and aiosqlite take their time, and a worker
# process, which imports this package too, needs none of them.
_LATER = {
    "AsyncClaim": "registry.aio",
    "AsyncRecipe": "registry.recipe",
    "AsyncRegistry": "registry.aio",
    "CheckReport": "registry.verbs.check",
    "Claim": "registry.sync",
    "HistoryEvent": "registry.verbs.history",
    "HostInfo": "registry.verbs.hosts",
    "Recipe": "registry.recipe",
    "Registry": "registry.sync",
    "Stats": "registry.verbs.listing",
    "async_handle": "registry.process_handles",
    "handle": "registry.process_handles",
    "preload": "registry.imports",
    "prepared": "registry.decorator",
}


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER`, and keep it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
