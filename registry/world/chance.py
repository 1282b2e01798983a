"""Chance: names and tokens that nobody else draws, and pauses of no fixed length."""

from __future__ import annotations

import os

__all__ = ["between", "token_hex"]


def token_hex(size: int) -> str:
    """Draw bytes from the kernel, in hex: as `secrets.token_hex`, which imports much more."""
    return os.urandom(size).hex()


def between(least: float, most: float) -> float:
    """Draw a number for a pause: as `random.uniform`."""
    return least + (most - least) * int.from_bytes(os.urandom(2)) / 0xFFFF
