"""How a host, its workers and their jobs talk: frames of msgpack over a socket or a pipe.

A frame is eight bytes of length, the lowest first, and that many bytes of msgpack. No length
is trusted: each reader limits the size of a frame.

What msgpack can say is None, bool, int of 64 bits, float, str, bytes, list, and dict with keys of
the simple ones; a tuple arrives as a list, a bytearray as bytes. A few bytes can say a great many
lists, so what is read is bounded by the number of values too.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgpack  # type: ignore[import-untyped]

from registry.errors import InvalidData

__all__ = [
    "HEADER",
    "MOST_OF_OURS",
    "MOST_VALUES",
    "frame",
    "length",
    "pack",
    "read",
    "receive",
    "unpack",
]

HEADER = 8
# Values in a request or result. As many take a tenth of a second and 100 MB.
MOST_VALUES = 1_000_000
# Values in what we say to each other ourselves; requests and results are bytes within it.
MOST_OF_OURS = 100


def pack(value: object, what: str) -> bytes:
    """Pack a value, called `what` in errors, into msgpack that can surely be read.

    Raises `TypeError` for what msgpack cannot say, `InvalidData` for an integer beyond 64 bits,
    text with lone surrogates, bytes beyond 4 GiB, too deep a nesting, or more than a million
    values.
    """
    try:
        packed = msgpack.packb(value)
        _unpack(packed, MOST_VALUES)  # a tuple as a key would go in only
    except TypeError as error:
        raise TypeError(
            f"the {what} holds what msgpack cannot say ({error}); only None, bool, int, float, "
            "str, bytes, list and dict can be sent"
        ) from None
    except (ValueError, OverflowError) as error:
        raise InvalidData(f"the {what} holds what msgpack cannot say: {error}") from None
    assert isinstance(packed, bytes)
    return packed


def unpack(packed: bytes, most: int = MOST_VALUES) -> Any:
    """Read msgpack back; raises `ValueError` for what is none, or holds more than `most` values."""
    try:
        return _unpack(packed, most)
    except TypeError as error:  # a list as a key
        raise ValueError(f"this is not msgpack: {error}") from None


def _unpack(packed: bytes, most: int) -> Any:
    left = most

    def counted(values: Any) -> Any:
        nonlocal left
        left -= 1 + len(values)
        if left < 0:
            raise ValueError(f"more than {most:,} values")
        return values

    return msgpack.unpackb(
        packed,
        strict_map_key=False,
        max_array_len=most,
        max_map_len=most,
        list_hook=counted,
        object_hook=counted,
    )


def frame(message: object) -> bytes:
    """Make a frame of a message of ours, which msgpack can say."""
    packed = msgpack.packb(message)
    assert isinstance(packed, bytes)
    return len(packed).to_bytes(HEADER, "little") + packed


def length(header: bytes, limit: int) -> int:
    """Read a frame's length; one over the limit is a `ValueError`."""
    size = int.from_bytes(header, "little")
    if size > limit:
        raise ValueError(f"a frame of {size} bytes is over the limit of {limit}")
    return size


async def read(stream: asyncio.StreamReader, limit: int) -> Any:
    """Read the next frame; raises `EOFError` at the end, `ValueError` for nonsense."""
    header = await stream.readexactly(HEADER)
    return unpack(await stream.readexactly(length(header, limit)), MOST_OF_OURS)


def receive(peer: socket.socket, limit: int) -> Any:
    """Read the next frame, blocking; raises `EOFError` at the end, `ValueError` for nonsense."""
    return unpack(_exactly(peer, length(_exactly(peer, HEADER), limit)), MOST_OF_OURS)


def _exactly(peer: socket.socket, size: int) -> bytes:
    received = bytearray(size)
    view = memoryview(received)
    while view:
        count = peer.recv_into(view)
        if count == 0:
            raise EOFError("the other side is gone")
        view = view[count:]
    return bytes(received)
