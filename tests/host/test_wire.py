"""Frames, and what can be said in them."""

from __future__ import annotations

import asyncio
import socket

import pytest
from host.stories import story
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidData
from registry.host import wire
from registry.host.kinds import Kind
from registry.host.messages import Reply, Task
from registry.host.worker.limits import Limits

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
SAYABLE = st.recursive(
    SIMPLE, lambda inner: st.lists(inner) | st.dictionaries(SIMPLE, inner), max_leaves=20
)


@given(SAYABLE)
def test_what_can_be_said_comes_back_as_it_was(value):
    assert wire.unpack(wire.pack(value, "value")) == value


@pytest.mark.parametrize("value", [{1}, object(), {(1,): 2}, lambda: None, 1j])
def test_what_msgpack_does_not_know_is_a_type_error_that_names_the_value(value):
    with pytest.raises(TypeError, match="the request holds"):
        wire.pack(value, "request")


def test_what_msgpack_cannot_hold_is_invalid_data():
    endless: list[object] = []
    endless.append(endless)
    for value in (2**64, "\ud800", endless):
        with pytest.raises(InvalidData, match="the result holds"):
            wire.pack(value, "result")


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(garbage):
    try:
        wire.unpack(garbage)
    except ValueError:
        return


def test_a_frame_over_the_limit_is_refused_before_it_is_read():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(wire.frame(b"x" * 100))
        with pytest.raises(ValueError, match="over the limit of 99"):
            wire.receive(theirs, 99)


def test_a_frame_arrives_in_whatever_pieces_it_comes():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for byte in wire.frame(["a", b"b"]):
            ours.send(bytes([byte]))
        assert wire.receive(theirs, 100) == ["a", b"b"]


@pytest.mark.parametrize("cut", [0, 4, 9])
def test_the_end_within_a_frame_is_the_end(cut):
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(wire.frame("word")[:cut])
        with pytest.raises(EOFError):
            wire.receive(theirs, 100)


@story
async def test_a_stream_reads_the_same_frames():
    stream = asyncio.StreamReader()
    stream.feed_data(wire.frame({"a": 1}) + wire.frame("b" * 100))
    stream.feed_eof()
    assert await wire.read(stream, 50) == {"a": 1}
    with pytest.raises(ValueError, match="over the limit"):
        await wire.read(stream, 50)


def test_messages_come_back_as_they_were():
    task = Task("prepare", b"code", Limits(1.5, 2**33), '{"a":1}')
    assert Task.from_wire(wire.unpack(wire.pack(task.to_wire(), "task"))) == task
    reply = Reply("kind", "message", True, "InternalError", b"result", 0.5, 1024)
    assert Reply.from_wire(wire.unpack(wire.pack(reply.to_wire(), "reply"))) == reply


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        [],
        [1, "", False, "", b"", 0.0, 0],
        [None, "", 0, "", b"", 0.0, 0],
        [None, "", False, "", "", 0.0, 0],
        [None, "", False, "", b"", 0.0],
    ],
)
def test_what_is_no_reply_is_refused(said):
    with pytest.raises(ValueError, match="no reply"):
        Reply.from_wire(said)


def test_a_failure_of_our_own_knows_whether_it_is_deterministic():
    assert Reply.failed(Kind.JOB_ERROR, "m").deterministic
    assert not Reply.failed(Kind.JOB_DIED, "m").deterministic
