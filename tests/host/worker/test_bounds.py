"""What comes out of a job, or goes in, is bounded in values and not only in bytes."""

from __future__ import annotations

import struct
import threading

import msgpack
import pytest
from host.hosting import hosting
from host.stories import AMPLE, story, wish
from support.tables import rows

from registry import InvalidData, PossiblyInvalid
from registry.host import wire
from registry.host.wire import MOST_VALUES

FINE = wish("answer")
READ = {"do": "read"}
MANY = 4 * MOST_VALUES


def array(count: int) -> bytes:
    return b"\xdd" + struct.pack(">I", count)


BOMBS = {
    "lists": array(MANY) + b"\x91\x90" * MANY,
    "numbers": array(MANY) + b"\x00" * MANY,
    "lists of lists": array(3000) + (array(3000) + b"\xc0" * 3000) * 3000,
    "maps": array(MOST_VALUES) + b"\x81\x00\x80" * MOST_VALUES,
    "nested": b"\x91" * MANY + b"\x90",
    "promised": array(2**32 - 1) * 500,
}


@pytest.mark.parametrize("packed", BOMBS.values(), ids=BOMBS)
@story
async def test_a_result_of_too_many_values_is_refused_and_the_pool_lives_on(hosted, packed):
    async with hosting(hosted) as host:
        with pytest.raises(PossiblyInvalid, match="no result"):
            await host.execute(FINE, {}, {"do": "forge a report", "result": packed}, timeout=AMPLE)
        assert await host.execute(FINE, {}, READ) == b"prepared"


@story
async def test_a_request_of_too_many_values_is_refused_before_anything_is_claimed(hosted):
    async with hosting(hosted) as host:
        with pytest.raises(InvalidData, match="request"):
            await host.execute(FINE, {}, [[]] * MOST_VALUES)
        assert rows(hosted) == []
        most = [0] * (MOST_VALUES - 10)
        assert await host.execute(FINE, {}, {"do": "answer", "with": most}, timeout=AMPLE) == most


@story
async def test_results_are_read_off_the_loop(hosted, monkeypatch):
    threads = set()
    unpack = wire.unpack

    def watched(packed: bytes, most: int = MOST_VALUES) -> object:
        if most == MOST_VALUES:
            threads.add(threading.get_ident())
        return unpack(packed, most)

    monkeypatch.setattr(wire, "unpack", watched)
    async with hosting(hosted) as host:
        assert await host.execute(FINE, {}, READ) == b"prepared"
    assert threads
    assert threading.get_ident() not in threads


def test_what_is_said_at_most_is_the_same_on_both_sides():
    said = msgpack.packb([0] * (MOST_VALUES - 1))
    assert len(wire.unpack(said)) == MOST_VALUES - 1
    with pytest.raises(ValueError, match="values"):
        wire.unpack(msgpack.packb([0] * MOST_VALUES))
