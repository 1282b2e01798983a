"""How long the tests of the simulator take: seconds, or, if they are asked to, hours."""

from __future__ import annotations

import os

__all__ = ["LONG"]

LONG = os.environ.get("REGISTRY_SIMULATE") == "long"
