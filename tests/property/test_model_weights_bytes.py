"""No bytes whatsoever make the reader of weights fail in any other way than by refusing."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors

SPEC = ModelSpec.chain(2, out=Linear(1))
GOOD = weights_to_safetensors({"out.weight": np.ones((1, 2), np.float32), "out.bias": np.zeros(1, np.float32)}, SPEC)


def read_or_refuse(data: bytes) -> None:
    try:
        weights = weights_from_safetensors(data, SPEC)
    except ConfideError as error:
        refused = error.code
    else:
        assert [(name, values.shape) for name, values in weights.items()] == [("out.weight", (1, 2)), ("out.bias", (1,))]
        assert all(np.isfinite(values).all() for values in weights.values())
        return
    assert refused is ErrorCode.INVALID_MODEL


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_weights_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_weights_changed_bytes_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    read_or_refuse(bytes(data))


NUMBERS = st.sampled_from([-(2**63), -4, -1, 0, 1, 2, 4, 8, 12, 2**31, 2**63, 2**64])
ENTRIES = st.none() | st.booleans() | st.text(max_size=3) | NUMBERS | st.lists(NUMBERS, max_size=3)


@settings(max_examples=100)
@given(ENTRIES, ENTRIES, ENTRIES)
def test_weights_any_header_entry_is_read_or_refused(shape: object, offsets: object, bias: object) -> None:
    header = json.dumps({"out.weight": {"dtype": "F32", "shape": shape, "data_offsets": offsets}, "out.bias": bias}).encode()
    read_or_refuse(len(header).to_bytes(8, "little") + header + bytes(12))


@settings(max_examples=100)
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_weights_any_offsets_are_read_or_refused(a: int, b: int, c: int, d: int) -> None:
    entries = {
        "out.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [a, b]},
        "out.bias": {"dtype": "F32", "shape": [1], "data_offsets": [c, d]},
    }
    header = json.dumps(entries).encode()
    read_or_refuse(len(header).to_bytes(8, "little") + header + bytes(12))
