"""What the machine ran out of is no failure of the code: the claim is given back, all as before."""

from __future__ import annotations

import asyncio
import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.making import claimed, failed
from support.tables import row, rows

from registry import (
    ArtifactId,
    AsyncRegistry,
    CacheDirectoryRefused,
    InternalError,
    NotPrepared,
    PreparationFailed,
    PrepareError,
    Registry,
    RetryPolicy,
    State,
)

SHORTAGES = [
    MemoryError(),
    RuntimeError("can't start new thread"),
    OSError(errno.ENOMEM, "no memory"),
    BlockingIOError(errno.EAGAIN, "no process"),
    OSError(errno.EMFILE, "no descriptor"),
    OSError(errno.ENOSPC, "no room"),
    OSError(errno.EDQUOT, "no quota"),
    InternalError("no worker"),
    CacheDirectoryRefused("no descriptor for another cache"),
    PrepareError("no licence", remembered=False),
]
FAILURES = [ValueError("no"), RuntimeError("no"), OSError("no"), PrepareError("no")]


def raiser(error: Exception):
    def prepare() -> bytes:
        raise error

    return prepare


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_a_shortage_is_not_remembered(registry: Registry, cache: Path, id: ArtifactId, error):
    for _ in range(8):  # more often than a failure may be tried again
        with pytest.raises(NotPrepared, match="not remembered") as caught:
            registry.get_or_prepare(id, raiser(error), label="kernel")
        assert caught.value.__cause__ is error
        told = caught.value.artifact
        assert told is not None
        assert (told.id, told.state, told.label) == (id, State.FAILED, "kernel")
        assert rows(cache) == []
    assert registry.get_or_prepare(id, lambda: b"made").state is State.PREPARED
    assert registry.check().ok


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_nor_by_an_async_handle(cache: Path, id: ArtifactId, error):
    async def tell() -> None:
        async def prepare() -> bytes:
            raise error

        async with AsyncRegistry(cache) as registry:
            with pytest.raises(NotPrepared) as caught:
                await registry.get_or_prepare(id, prepare)
            assert caught.value.__cause__ is error
            with pytest.raises(type(error)):
                async with await registry.claim(id):
                    raise error
            assert rows(cache) == []

    asyncio.run(tell())


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_nor_where_a_claim_is_left_by_it(registry: Registry, cache: Path, id: ArtifactId, error):
    with pytest.raises(type(error)), claimed(registry, id):
        raise error
    assert rows(cache) == []


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_failure_is_remembered(registry: Registry, cache: Path, id: ArtifactId, error):
    with pytest.raises(PreparationFailed) as caught:
        registry.get_or_prepare(id, raiser(error))
    assert not isinstance(caught.value, NotPrepared)
    assert row(cache, id)["state"] == "failed"


def test_a_shortage_leaves_an_earlier_failure_as_it_was(cache: Path, id: ArtifactId):
    with Registry(cache, retry=RetryPolicy(max_retries=5)) as registry:
        failed(registry, id)
        registry.retry(id)
        before = row(cache, id)
        with pytest.raises(NotPrepared):
            registry.get_or_prepare(id, raiser(MemoryError()))
        assert row(cache, id) == before


HUNGRY = """
import sys
from registry import ArtifactId, NotPrepared, Registry

with Registry(sys.argv[1]) as registry:
    try:
        registry.get_or_prepare(ArtifactId.of(b"kernel"), lambda: bytes(1 << 40))
    except NotPrepared:
        print("not prepared")
"""


def test_a_process_with_little_memory_decides_for_no_other(cache: Path):
    limit = 1 << 30
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY, str(cache)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert done.stdout == "not prepared\n"
    with Registry(cache) as registry:
        made = registry.get_or_prepare(ArtifactId.of(b"kernel"), lambda: b"made")
        assert made.state is State.PREPARED
