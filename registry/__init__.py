"""Each artifact compiled once per machine: a persistent, shared, bounded registry over SQLite."""

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
    RecursivePreparation,
    RegistryBusy,
    RegistryError,
    SchemaTooNew,
    SchemaTooOld,
    UnknownArtifact,
    WaitTimeout,
    WrongLoop,
)
from registry.sync import Claim, Registry
from registry.verbs.hosting import HostInfo
from registry.verbs.looking import Stats
from registry.verbs.reconciling import CheckReport
from registry.version import __version__

if TYPE_CHECKING:
    from registry.aio import AsyncClaim, AsyncRegistry

__all__ = [
    "AmbiguousPrefix",
    "Artifact",
    "ArtifactBusy",
    "ArtifactId",
    "AsyncClaim",
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
    "HandleClosed",
    "HandleForked",
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
]


def __getattr__(name: str) -> Any:
    """Import the async handle when it is first asked for: asyncio and aiosqlite take their time."""
    if name in ("AsyncClaim", "AsyncRegistry"):
        from registry import aio

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
