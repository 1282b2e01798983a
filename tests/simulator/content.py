"""What simulated users prepare: bytes that say which artifact they are, and who made them."""

from __future__ import annotations

from registry import ArtifactId

__all__ = ["maker", "prepared_bytes"]


def prepared_bytes(id: ArtifactId, host_id: str, count: int) -> bytes:
    """Prepare an artifact: what it is, who made it, and a size that tells one try from another."""
    return f"{id} {host_id} {count}\n".encode() + b"." * (count * 37 % 200)


def maker(data: bytes) -> tuple[str, str]:
    """Read back which artifact some bytes are, and which host made them."""
    words = data.split(b"\n", 1)[0].decode("ascii", "replace").split(" ")
    return (words[0], words[1]) if len(words) == 3 else ("", "")
