"""Artifacts whose bytes prove whose they are: of which key, made by which host, at which try.

All that follows the first line follows from it, so a reader who knows the key needs nothing else to
tell whether what he reads is whole, is no other's, and is no mixture of two tries.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["maker_of", "proof"]


def proof(key: int, host_id: str, number: int) -> bytes:
    """Make an artifact: 0.3 to 13 KB that nobody else, and no other try, makes."""
    head = f"{key} {host_id} {number}\n".encode()
    return head + blake2b(head, digest_size=32).digest() * (10 + 10 * key)


def maker_of(key: int, data: bytes) -> str:
    """Read which host made an artifact of that key; fails if one byte is not as it must be."""
    head = data.partition(b"\n")[0].decode("ascii", "replace").split(" ")
    assert len(head) == 3, f"{key} holds {data[:100]!r}"
    _, host_id, number = head
    assert data == proof(key, host_id, int(number)), f"{key} holds {data[:100]!r}"
    return host_id
