"""Run WebAssembly in worker processes that can be killed, through the host."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from registry.cli.commands.prepare import Found

if TYPE_CHECKING:
    from registry.wasm import Result

__all__ = ["run_isolated"]

# CPU time, for runs that nobody watches; a person at a terminal uses Ctrl-C.
PATIENCE = timedelta(hours=1)


def run_isolated(
    cache: Path, code: bytes, request: dict[str, Any], label: str
) -> tuple[Found, Result]:
    """Find the artifact or compile it in a worker, and run it in another worker.

    Both are confined if the kernel can do it. Input and output are passed as a whole: the output
    arrives when the module has ended. Raises what `Host.execute` raises.
    """
    return asyncio.run(_run(cache, code, request, label))


async def _run(
    cache: Path, code: bytes, request: dict[str, Any], label: str
) -> tuple[Found, Result]:
    from registry import AsyncRegistry, wasm
    from registry.confinement import isolation
    from registry.host import Confinement, Host

    confinement = Confinement() if isolation.available() else None  # without a warning at each run
    async with (
        AsyncRegistry(cache) as registry,
        Host(registry, "registry.wasm", confinement=confinement) as host,
    ):
        name = wasm.artifact_id(code)
        started = perf_counter()
        known = await registry.get(name)  # the host needs it; a second need would be counted
        seconds = perf_counter() - started
        result: Result = await host.execute(code, {}, request, timeout=PATIENCE, label=label)
        made = await registry.get(name) or known  # it may have been removed during the run
        assert made is not None
        if known is not None and known.path is not None and known.path == made.path:
            return Found(made, "hit", seconds), result
        return Found(made, "miss", made.prepare_seconds or 0.0), result
