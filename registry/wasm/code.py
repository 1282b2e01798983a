"""Code as it is given, and what it stands for: WebAssembly or its text, plain or compressed.

Compressed code is as on Polkadot's chains: eight bytes of magic, then zstd. Anything else is
taken as it is. A few bytes of zstd can stand for gigabytes, so the limit is enforced while
decompressing, and what decompresses to more is never held.
"""

from __future__ import annotations

from contextlib import suppress

from registry.errors import CodeTooLarge, PrepareError
from registry.wasm.extra import extra

__all__ = ["CODE_LIMIT", "check_code", "decompressed"]

# The limit that Polkadot puts on validation code; the largest known has about 3 MiB.
CODE_LIMIT = 12 * 1024**2

_COMPRESSED = bytes.fromhex("52bc537646db8e05")
# Four bytes of zstd can stand for one block of 128 KiB, so no step gives more than 2 MiB; and at
# this size a megabyte of real code is still decompressed in some 5 ms.
_STEP = 64


def check_code(code: bytes, limit: int = CODE_LIMIT) -> None:
    """Refuse code over `limit` bytes, decompressed if need be, by raising `CodeTooLarge`.

    For before a claim: what is too large is nobody's failure and is not remembered. Free for
    plain code, a few milliseconds a megabyte for compressed code. Code that cannot be
    decompressed passes: that is a failure of `prepare`, and is remembered as one.
    """
    with suppress(PrepareError):
        decompressed(code, limit)


def decompressed(code: bytes, limit: int = CODE_LIMIT) -> bytes:
    """Give the code itself; raises `CodeTooLarge`, or `PrepareError` for broken compression.

    Never holds more than `limit` bytes and one step (2 MiB) of what is decompressed.
    """
    if not isinstance(code, bytes):
        raise TypeError(f"code is bytes, not {type(code).__name__}")
    if code.startswith(_COMPRESSED):
        return _inflated(memoryview(code)[len(_COMPRESSED) :], limit)
    if len(code) > limit:
        raise CodeTooLarge(
            f"the code has {len(code)} bytes; the limit is {limit} (the parameter code_limit)"
        )
    return code


def _inflated(packed: memoryview, limit: int) -> bytes:
    with extra():
        import zstandard
    try:
        return _unpacked(packed, limit)
    except zstandard.ZstdError as error:
        raise _broken(f"zstd says: {error}") from None


def _unpacked(packed: memoryview, limit: int) -> bytes:
    """Decompress all frames, step by step."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame, code = decompressor.decompressobj(), bytearray()
    for start in range(0, len(packed), _STEP):
        rest = bytes(packed[start : start + _STEP])
        while rest:
            if frame.eof:
                frame = decompressor.decompressobj()
            code += frame.decompress(rest)
            if len(code) > limit:
                raise CodeTooLarge(
                    f"the code has {len(packed)} bytes compressed and more than {limit} bytes "
                    "decompressed, which is the limit (the parameter code_limit)"
                )
            rest = frame.unused_data
    if not frame.eof:
        raise _broken("it ends in the middle of a zstd frame")
    return bytes(code)


def _broken(reason: str) -> PrepareError:
    return PrepareError(
        f"the code starts as compressed code does, but cannot be decompressed: {reason}",
        kind="could_not_decompress_code_blob",
    )
