"""What the stories about hosts share: a host in a cache, the names of what it prepares."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from host.backends import echo, rogue
from host.stories import ECHO, ROGUE
from support.making import claimed

from registry import Artifact, ArtifactId, AsyncRegistry, Registry
from registry.host import Host

__all__ = ["hosting", "id_of", "process", "published", "until"]

_BACKENDS = {ECHO: echo, ROGUE: rogue}


@asynccontextmanager
async def hosting(
    cache: Path,
    backend: str = ROGUE,
    opened: Callable[[Path], AsyncRegistry] = AsyncRegistry,
    **options: Any,
) -> AsyncIterator[Host]:
    """Open the cache, and a host on it."""
    async with opened(cache) as registry, Host(registry, backend, **options) as host:
        yield host


def id_of(code: bytes, backend: str = ROGUE, **params: Any) -> ArtifactId:
    """The id that a host gives to this code."""
    return ArtifactId.of(code, _BACKENDS[backend].identity(params))


def published(cache: Path, code: bytes, data: bytes = b"prepared") -> Artifact:
    """Have another handle publish what the rogue backend would have prepared, or would not."""
    with Registry(cache) as other:
        return claimed(other, id_of(code)).publish(data)


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; a test that waits in vain ends by its time-out."""
    while not condition():  # noqa: ASYNC110  # what brings it about knows nothing of us
        await asyncio.sleep(0.002)


@asynccontextmanager
async def process(script: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Python in another process, which sees the modules that we see."""
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *map(str, arguments)),
        stdin=pipe,
        stdout=pipe,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
