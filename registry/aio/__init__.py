"""`AsyncRegistry`: the verbs for code that runs in an event loop.

A thin driver, as `Registry` is one, for the same verbs:

    registry    the verbs
    claim       the right to prepare one artifact
    handle      opening and closing
    performer   how an effect is performed in an event loop
    driver      the driver of verbs, and what a cancellation does
    calls       sleep, and call a user's `prepare`
    host_calls  what only a `Host` asks of a handle
"""

from registry.aio.claim import AsyncClaim
from registry.aio.registry import AsyncRegistry

__all__ = ["AsyncClaim", "AsyncRegistry"]
