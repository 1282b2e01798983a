"""An artifact, its id, its states, and its life.

1.  Nobody knows it: there is no row.
2.  *preparing*: one host claimed it. The claim's one statement inserted the row and reserved a
    fresh random file name in it. Every other host that wants the artifact waits for this one.
3.  The claimant writes `artifacts/<name>.tmp`, fsyncs it, renames it to `artifacts/<name>`,
    fsyncs the folder, and only then publishes the row: a prepared row always has its file.
4.  *prepared*: name, size and checksum of the file are in the row. `last_time_needed` is the time
    of publishing; each need bumps it.
5.  *failed*: the error, its kind, `num_failures`, `last_time_failed`, and `retry_at`, the only
    thing a later claim looks at. NULL there means "never by itself". A failure that may not be
    tried yet is returned with its message, and nothing changes.
6.  Pruned, removed or found damaged: the row is deleted and committed first, the file is unlinked
    after. The next process that needs the artifact finds no row and prepares it again.
7.  A claim whose host died, or whose deadline passed, goes to the next process that needs the
    artifact, with `num_failures` + 1. The fencing token in every guard keeps the late one out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry.base_errors import InvalidId, InvalidParams

__all__ = [
    "Artifact",
    "ArtifactId",
    "Holder",
    "State",
    "code_hash_of",
    "from_micros",
    "names",
    "near",
    "needed_at",
    "require_id",
    "shown",
    "split_prefix",
    "to_micros",
]

_HASH = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"([0-9a-f]{1,64})(?:/([0-9a-f]{0,64}))?")
# How much a message tells of a place in parameters, and of a key; either may be of any length.
_PLACE = 60
_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# A row that another program wrote may hold any time; the nearest valid one is shown.
_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


class State(StrEnum):
    """Where in its life an artifact is: `PREPARING`, `PREPARED` or `FAILED`; unknown is no row."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    FAILED = "failed"


@dataclass(frozen=True, order=True, slots=True)
class ArtifactId:
    """Name an artifact by what it is made of: the code, and the parameters of its preparation.

    Both are 64 lower-case hex digits of BLAKE2b-256. Raises `InvalidId` for other text and
    `TypeError` for what is no text.
    """

    code_hash: str
    prep_hash: str

    def __post_init__(self) -> None:
        for name, value in (("code_hash", self.code_hash), ("prep_hash", self.prep_hash)):
            if not isinstance(value, str):
                raise TypeError(f"{name} is a str of 64 hex digits, not {type(value).__name__}")
            if not _HASH.fullmatch(value):
                raise InvalidId(
                    f"{name} {value[:80]!r} is not 64 lower-case hex digits of BLAKE2b-256; "
                    "make an id with ArtifactId.of(code, params)"
                )

    @classmethod
    def of(cls, code: bytes, params: Mapping[str, Any] = _NO_PARAMS) -> ArtifactId:
        """Hash the code exactly as given and the canonical form of the parameters.

        The order of keys does not matter. Raises `InvalidId` for empty code and `InvalidParams`
        for a parameter that is not None, bool, int, float, str, list or dict with str keys. A float
        counts as its shortest text: 1.0 is not 1, 0.0 is not -0.0, and each NaN is "NaN".
        """
        if not isinstance(code, bytes | bytearray | memoryview):
            raise TypeError(f"code is bytes, not {type(code).__name__}")
        if memoryview(code).nbytes == 0:
            raise InvalidId("the code is empty; an artifact is made of at least one byte")
        from hashlib import blake2b

        return cls(blake2b(bytes(code), digest_size=32).hexdigest(), _prep_hash(params))

    @classmethod
    def parse(cls, text: str) -> ArtifactId:
        """Read back what `str()` of an id gave: "code_hash/prep_hash"."""
        if not isinstance(text, str):
            raise TypeError(f"an id is read from a str, not {type(text).__name__}")
        code_hash, _, prep_hash = text.partition("/")
        return cls(code_hash, prep_hash)

    def __str__(self) -> str:
        return f"{self.code_hash}/{self.prep_hash}"

    @property
    def short(self) -> str:
        """The id as people quote it: the first 12 digits of each hash."""
        return f"{self.code_hash[:12]}/{self.prep_hash[:12]}"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who prepares an artifact: the host's random id, its process, and since when (aware UTC).

    `pid` and `hostname` are None where the host's row is gone. A pid is the one in
    the host's own namespace, and may have been given to another process since.
    """

    host_id: str
    pid: int | None
    hostname: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact as its row was when it was read; it does not change by itself.

    `size` is bytes, times are aware UTC datetimes, `prepare_seconds` wall-clock seconds.
    `kind` says who made it, if anybody said so: "triton", "python", a name of the user's.
    `path` and `size` are None unless prepared. A path is NOT pinned: pruning may unlink it at any
    time, so open it soon or use `open_file`.
    """

    id: ArtifactId
    state: State
    path: Path | None
    size: int | None
    checksum: str | None
    last_time_needed: datetime | None
    num_failures: int
    last_time_failed: datetime | None
    error: str | None
    error_kind: str | None
    retry_at: datetime | None
    label: str | None
    prepare_seconds: float | None
    holder: Holder | None
    kind: str | None = None

    def __str__(self) -> str:
        return f"{self.label} ({self.id.short})" if self.label else self.id.short


def needed_at(found: Artifact, when: datetime) -> Artifact:
    """Copy an artifact with another last use: `replace`, in half the time, for what needs do."""
    return Artifact(
        id=found.id,
        state=found.state,
        path=found.path,
        size=found.size,
        checksum=found.checksum,
        last_time_needed=when,
        num_failures=found.num_failures,
        last_time_failed=found.last_time_failed,
        error=found.error,
        error_kind=found.error_kind,
        retry_at=found.retry_at,
        label=found.label,
        prepare_seconds=found.prepare_seconds,
        holder=found.holder,
        kind=found.kind,
    )


def from_micros(micros: int) -> datetime:
    """Turn stored microseconds since the epoch into an aware UTC datetime."""
    return _EPOCH + timedelta(0, 0, min(max(micros, _FIRST), _LAST))


def split_prefix(prefix: str) -> tuple[str, str]:
    """Split the start of an id into those of its two hashes; raises `InvalidId`."""
    if not isinstance(prefix, str):
        raise TypeError(f"a prefix is a str, not {type(prefix).__name__}")
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise InvalidId(f"{prefix[:80]!r} is no id prefix: give lower-case hex digits, CODE[/PREP]")
    return match[1], match[2] or ""


def names(code_hash: str, prep_hash: str) -> bool:
    """Whether two texts name an artifact; asked of a row, which somebody else may have written."""
    return bool(_HASH.fullmatch(code_hash) and _HASH.fullmatch(prep_hash))


def to_micros(span: timedelta) -> int:
    """Turn a duration into whole microseconds."""
    return span // _MICROSECOND


def near(where: str, inner: str) -> str:
    """Say where in a value something is, however deep: the beginning and the end of the way."""
    whole = where + inner
    if len(whole) <= 2 * _PLACE:
        return whole
    return f"{whole[:_PLACE]}...{whole[-_PLACE:]}"


def shown(key: object) -> str:
    """Show the key of a dict, which may be of any kind and length, in a message."""
    if type(key) is str:
        return repr(key if len(key) <= _PLACE else f"{key[:_PLACE]}...")
    return f"of type {type(key).__qualname__}"


def code_hash_of(code: bytes | str) -> str:
    """The hash of code; one that is given already is checked. Raises `InvalidId`."""
    if not isinstance(code, str):
        return ArtifactId.of(code).code_hash
    return ArtifactId(code, "0" * 64).code_hash


def _prep_hash(params: Mapping[str, Any]) -> str:
    import json
    from hashlib import blake2b

    if not isinstance(params, Mapping):
        raise TypeError(f"params is a mapping, not {type(params).__name__}")
    try:
        plain = dict(params)
        _require_canonical(plain, "params")
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        canonical = b"registry/prep/1\n" + text.encode()
    except RecursionError:
        raise InvalidParams("params are nested too deeply, or contain themselves") from None
    except ValueError as error:  # a lone surrogate, an int of too many digits
        if isinstance(error, InvalidParams):
            raise
        raise InvalidParams(f"params have no canonical form: {error}") from None
    return blake2b(canonical, digest_size=32).hexdigest()


def _require_canonical(value: object, where: str) -> None:
    match value:
        case None | bool() | int() | str():
            return
        case float() if type(value) is float:  # a subclass may be written in any way
            return
        case list():
            for index, item in enumerate(value):
                _require_canonical(item, near(where, f"[{index}]"))
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidParams(f"{where} has a key {shown(key)}, which is no str")
                _require_canonical(item, near(where, f"[{shown(key)}]"))
        case _:
            raise InvalidParams(
                f"{where} is a {type(value).__name__}; only None, bool, int, float, str, list and "
                "dict have a canonical form"
            )


def require_id(id: ArtifactId) -> None:
    """Refuse what is no id."""
    if not isinstance(id, ArtifactId):
        raise TypeError(f"an artifact is named by an ArtifactId, not {type(id).__name__}")
