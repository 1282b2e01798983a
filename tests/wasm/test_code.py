"""Code as it is given: plain, compressed, too large, broken."""

import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from registry import wasm
from registry.errors import CodeTooLarge, PrepareError
from registry.wasm.code import decompressed

MAGIC = bytes.fromhex("52bc537646db8e05")
MIB = 1024**2


def compress(code: bytes) -> bytes:
    return MAGIC + zstandard.compress(code)


def bomb(size: int) -> bytes:
    """As chains do it: streamed, so that nothing in it says how large it will be."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    pieces = [compressor.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join([MAGIC, *pieces, compressor.flush()])


def test_plain_code_is_taken_as_it_is() -> None:
    assert decompressed(b"\0asm and so on") == b"\0asm and so on"


@given(st.binary(max_size=5000))
def test_compressed_code_comes_back_whole(code: bytes) -> None:
    assert decompressed(compress(code)) == code


def test_code_may_be_compressed_in_several_frames() -> None:
    assert decompressed(compress(b"one ") + zstandard.compress(b"two")) == b"one two"


def test_zstd_without_the_magic_is_plain_code() -> None:
    packed = zstandard.compress(b"code")
    assert decompressed(packed) == packed


@pytest.mark.parametrize("give", [lambda code: code, compress], ids=["plain", "compressed"])
def test_the_limit_is_the_largest_size_that_passes(give) -> None:
    wasm.check_code(give(bytes(1000)), limit=1000)
    with pytest.raises(CodeTooLarge, match="1000"):
        wasm.check_code(give(bytes(1001)), limit=1000)


def test_by_default_the_limit_is_twelve_mebibytes() -> None:
    wasm.check_code(bytes(12 * MIB))
    with pytest.raises(CodeTooLarge, match="12582912"):
        wasm.check_code(bytes(12 * MIB + 1))


def test_a_bomb_is_refused_before_it_has_gone_off() -> None:
    code = bomb(256 * MIB)
    assert len(code) < 64 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(CodeTooLarge, match="decompressed"):
            wasm.check_code(code, limit=MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_preparing_refuses_a_bomb_too() -> None:
    with pytest.raises(CodeTooLarge):
        wasm.prepare(bomb(13 * MIB))
    with pytest.raises(CodeTooLarge):
        wasm.prepare(b"(module) ;; and more", {"code_limit": 10})


def test_every_cut_through_compressed_code_is_a_deterministic_failure() -> None:
    whole = compress(b"some code, " * 10)
    for length in range(len(MAGIC), len(whole)):
        with pytest.raises(PrepareError) as refused:
            decompressed(whole[:length])
        assert refused.value.kind == "could_not_decompress_code_blob"
        assert refused.value.deterministic


@pytest.mark.parametrize("rest", [b"", b"no zstd at all", zstandard.compress(b"code") + b"tail"])
def test_what_cannot_be_decompressed_says_so(rest: bytes) -> None:
    with pytest.raises(PrepareError, match="cannot be decompressed"):
        wasm.prepare(MAGIC + rest)


def test_checking_leaves_broken_compression_to_preparing() -> None:
    wasm.check_code(MAGIC + b"no zstd at all")


def test_code_is_bytes() -> None:
    with pytest.raises(TypeError, match="code is bytes, not str"):
        wasm.prepare("(module)")  # type: ignore[arg-type]
