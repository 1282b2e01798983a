"""`Registry`: the verbs for code that blocks.

A thin driver, the twin of `registry.aio`:

    registry    the verbs
    claim       the right to prepare one artifact
    handle      opening and closing, and how an effect is performed in a thread
"""

from registry.sync.claim import Claim
from registry.sync.registry import Registry

__all__ = ["Claim", "Registry"]
