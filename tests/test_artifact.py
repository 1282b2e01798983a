"""What names an artifact: two hashes, whose values other programs can compute too."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import ArtifactId, InvalidId, InvalidParams, RegistryError

HASH = "0123456789abcdef" * 4


def blake(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def prep_hash(params: dict[str, Any]) -> str:
    """The canonical form as the contract words it."""
    text = json.dumps(
        params, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return blake(b"registry/prep/1\n" + text.encode("utf-8"))


# --- golden values ------------------------------------------------------------------------------


def test_the_code_hash_is_blake2b_256_of_the_code_as_given() -> None:
    # The test vector of BLAKE2b-256 for "abc".
    vector = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
    assert ArtifactId.of(b"abc").code_hash == vector


def test_the_canonical_form_of_parameters_never_changes() -> None:
    """These bytes name what is in people's caches: another form would orphan all of it."""
    spelt = {
        "{}": {},
        '{"a":1,"b":null}': {"b": None, "a": 1},
        '{"deep":{"a":[true,false,-7],"z":{}},"list":[]}': {
            "list": [],
            "deep": {"z": {}, "a": [True, False, -7]},
        },
        '{"quote":"\\"\\\\\\n\\u0001","ärger":"☃ 🦀"}': {"ärger": "☃ 🦀", "quote": '"\\\n\x01'},
    }
    for canonical, params in spelt.items():
        wanted = blake(b"registry/prep/1\n" + canonical.encode())
        assert ArtifactId.of(b"x", params).prep_hash == wanted
    assert ArtifactId.of(b"x").prep_hash == (
        "696c4c3864729fcd3e331b85a19009cbea4934886c9de4795f394430ab7ca1ec"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(min_size=1), st.dictionaries(st.text(), JSON, max_size=4))
def test_any_code_and_parameters_hash_as_the_contract_says(
    code: bytes, params: dict[str, Any]
) -> None:
    made = ArtifactId.of(code, params)
    assert made == ArtifactId(blake(code), prep_hash(params))
    backwards = dict(reversed(params.items()))
    assert ArtifactId.of(code, backwards) == made
    assert ArtifactId.of(code, MappingProxyType(params)) == made
    assert ArtifactId.of(bytearray(code), OrderedDict(params)) == made
    assert ArtifactId.of(memoryview(code), params) == made


def test_what_looks_alike_is_not_the_same() -> None:
    alike: list[dict[str, Any]] = [
        *({}, {"a": None}, {"a": 0}, {"a": False}, {"a": "0"}, {"a": ""}),
        *({"a": []}, {"a": {}}, {"a": [0]}, {"a": "[0]"}, {"A": 0}, {"a ": 0}),
    ]
    assert len({ArtifactId.of(b"x", params) for params in alike}) == len(alike)


# --- parameters that have no canonical form -----------------------------------------------------


def itself() -> dict[str, Any]:
    params: dict[str, Any] = {}
    params["again"] = params
    return params


class Number(float):
    """As a scalar of numpy is: a float that may be written in any way."""

    __slots__ = ()


FLOATS = [0, 0.0, -0.0, 1, 1.0, "1.0", 1.5, 1e300, 5e-324, float("inf"), float("-inf"), [1.0], [1]]


def test_floats_are_told_apart_from_each_other_and_from_all_else() -> None:
    assert len({ArtifactId.of(b"x", {"opt": value}) for value in FLOATS}) == len(FLOATS)
    texts = [ArtifactId.of(b"x", {"opt": value}) for value in ("NaN", "Infinity", "1e+300")]
    values = [ArtifactId.of(b"x", {"opt": it}) for it in (float("nan"), float("inf"), 1e300)]
    assert not set(texts) & set(values)


def test_a_float_has_the_same_id_in_each_process() -> None:
    # As `registry` has written it since there are floats; caches are full of these.
    one = ArtifactId.of(b"x", {"opt": [0.1, -0.0, float("inf")]})
    text = b'registry/prep/1\n{"opt":[0.1,-0.0,Infinity]}'
    assert one.prep_hash == hashlib.blake2b(text, digest_size=32).hexdigest()
    inf = float("inf")
    assert ArtifactId.of(b"x", {"a": inf - inf}) == ArtifactId.of(b"x", {"a": float("nan")})


@pytest.mark.parametrize("depth", [30, 300, 700])
def test_a_refusal_tells_where_in_a_few_words(depth: int) -> None:
    wrong: Any = {"long" * 1000: object()}
    for _ in range(depth):
        wrong = [wrong]
    for refused in ({"first": wrong}, {"first": {"x" * 10_000: object()}}, {"a": {b"k" * 999: 1}}):
        with pytest.raises(InvalidParams) as caught:
            ArtifactId.of(b"x", refused)
        assert len(str(caught.value)) < 300


def nested(depth: int) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for _ in range(depth):
        params = {"deeper": params}
    return params


@pytest.mark.parametrize(
    "params",
    [
        {"opt": (1, 2)},
        {"opt": {1, 2}},
        {"opt": b"bytes"},
        {"opt": object()},
        {"opt": MappingProxyType({})},
        {"opt": [1, [Number(2.5)]]},
        {"opt": {"deep": {"er": 1j}}},
        {1: "one"},
        {None: 1},
        {True: 1},
        {"opt": {1: "one"}},
        {"opt": "\ud800"},
        {"\udfff": 1},
        {"opt": 10**5000},
        itself(),
        nested(100_000),
    ],
    ids=[
        *("tuple", "set", "bytes", "object", "mapping", "deep subclass of float"),
        *("deep complex", "int key", "None key", "bool key", "deep int key", "surrogate"),
        *("surrogate key", "endless int", "itself", "too deep"),
    ],
)
def test_parameters_without_a_canonical_form_are_refused(params: dict[Any, Any]) -> None:
    with pytest.raises(InvalidParams):
        ArtifactId.of(b"x", params)


@pytest.mark.parametrize("params", [None, [], "opt", 5, [("opt", 1)]])
def test_parameters_are_a_mapping(params: Any) -> None:
    with pytest.raises(TypeError):
        ArtifactId.of(b"x", params)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (b"", InvalidId),
        (bytearray(), InvalidId),
        ("code", TypeError),
        (None, TypeError),
        (5, TypeError),
        ([1, 2], TypeError),
    ],
)
def test_code_is_at_least_one_byte(code: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ArtifactId.of(code)


# --- the id itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "a", HASH[:-1], HASH + "0", HASH.upper(), HASH[:-1] + "g", HASH[:-1] + "\n"),
        *(HASH + "\n", " " + HASH[1:], "0x" + HASH[2:], HASH[:-1] + "\0", HASH[:-1] + "٣"),
        "../" + HASH[3:],
    ],
)
@pytest.mark.parametrize("make", [lambda h: (h, HASH), lambda h: (HASH, h)])
def test_a_hash_is_64_lower_case_hex_digits(
    wrong: str, make: Callable[[str], tuple[str, str]]
) -> None:
    with pytest.raises(InvalidId, match="64 lower-case hex digits"):
        ArtifactId(*make(wrong))


@pytest.mark.parametrize("wrong", [None, 5, HASH.encode(), [HASH]])
def test_a_hash_is_text(wrong: Any) -> None:
    with pytest.raises(TypeError):
        ArtifactId(wrong, HASH)
    with pytest.raises(TypeError):
        ArtifactId(HASH, wrong)


def test_an_id_is_a_frozen_ordered_hashable_value() -> None:
    low, high = ArtifactId("0" * 64, "f" * 64), ArtifactId("1" * 64, "0" * 64)
    assert low < high
    assert ArtifactId("0" * 64, "0" * 64) < low
    assert {low, ArtifactId("0" * 64, "f" * 64)} == {low}
    with pytest.raises(FrozenInstanceError):
        low.code_hash = HASH  # type: ignore[misc]


def test_an_id_reads_back_from_its_text() -> None:
    made = ArtifactId.of(b"abc", {"opt": 2})
    assert str(made) == f"{made.code_hash}/{made.prep_hash}"
    assert ArtifactId.parse(str(made)) == made
    assert made.short == f"{made.code_hash[:12]}/{made.prep_hash[:12]}"


@pytest.mark.parametrize("text", ["", HASH, f"{HASH}/", f"/{HASH}", f"{HASH}/{HASH}/{HASH}"])
def test_other_text_is_no_id(text: str) -> None:
    with pytest.raises(InvalidId):
        ArtifactId.parse(text)


def test_errors_of_ids_are_errors_of_values_and_of_ours() -> None:
    for error in (InvalidId, InvalidParams):
        assert issubclass(error, RegistryError)
        assert issubclass(error, ValueError)
