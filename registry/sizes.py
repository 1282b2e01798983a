"""Sizes as people like to read them."""

from __future__ import annotations

__all__ = ["BINARY", "near_size"]

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def near_size(size: int) -> str:
    """Write a size in about three digits: "2.4 MiB"."""
    if size < 1024:
        return f"{size} B"
    number, power = float(size), 0
    while number >= 1023.95 and power + 1 < len(BINARY):  # 1023.95 would be written 1024.0
        number /= 1024
        power += 1
    return f"{number:.1f} {BINARY[power]}"
