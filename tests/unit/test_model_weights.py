"""Weights survive the round trip bit for bit; bytes that differ in anything are refused."""

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save as torch_save

from protocols.errors import ConfideError, ErrorCode
from protocols.model.layers import Linear
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors

SPEC = ModelSpec.chain(3, hidden=Linear(2), out=Linear(1, bias=False))


def some_weights() -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(3)
    return {parameter.name: generator.normal(size=parameter.shape).astype(np.float32) for parameter in SPEC.parameters}


def with_header(change: dict[str, object], payload: bytes | None = None) -> bytes:
    data = weights_to_safetensors(some_weights(), SPEC)
    length = int.from_bytes(data[:8], "little")
    header = {**json.loads(data[8 : 8 + length]), **change}
    text = json.dumps({key: value for key, value in header.items() if value is not None}).encode()
    return len(text).to_bytes(8, "little") + text + (data[8 + length :] if payload is None else payload)


def test_weights_round_trip_is_exact_and_deterministic() -> None:
    weights = some_weights()
    data = weights_to_safetensors(weights, SPEC)
    assert data == weights_to_safetensors(dict(reversed(weights.items())), SPEC)
    read = weights_from_safetensors(data, SPEC)
    assert list(read) == ["hidden.weight", "hidden.bias", "out.weight"]
    assert all(np.array_equal(read[name], weights[name]) and not read[name].flags.writeable for name in weights)


def test_weights_written_by_torch_are_read() -> None:
    weights = some_weights()
    data = torch_save({name: torch.from_numpy(values) for name, values in weights.items()})
    assert np.array_equal(weights_from_safetensors(data, SPEC)["out.weight"], weights["out.weight"])


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        (2**63).to_bytes(8, "little") + b"{}",
        (10**6).to_bytes(8, "little"),
        weights_to_safetensors(some_weights(), SPEC)[:-1],
        weights_to_safetensors(some_weights(), SPEC) + b"\x00",
        with_header({"hidden.bias": None}),
        with_header({"more": ENTRY}),
        with_header({"__metadata__": {"format": "pt"}}),
        with_header({"hidden.bias": {**ENTRY, "dtype": "F64"}}),
        with_header({"hidden.bias": {**ENTRY, "dtype": "I32"}}),
        with_header({"hidden.bias": {**ENTRY, "shape": [1, 2]}}),
        with_header({"hidden.bias": {**ENTRY, "shape": [True, 2]}}),
        with_header({"hidden.bias": {**ENTRY, "shape": [2.0]}}),
        with_header({"hidden.bias": {**ENTRY, "data_offsets": [4, 12]}}),
        with_header({"hidden.bias": {**ENTRY, "data_offsets": [-8, 0]}}),
        with_header({"hidden.bias": {**ENTRY, "data_offsets": [2**70, 2**70 + 8]}}),
        with_header({"hidden.bias": {**ENTRY, "data_offsets": [0]}}),
        with_header({"hidden.bias": {**ENTRY, "extra": 1}}),
        with_header({"hidden.bias": [1]}),
        (2).to_bytes(8, "little") + b"[]" + b"\x00" * 40,
        (1).to_bytes(8, "little") + b"\xff" + b"\x00" * 40,
        (40_000).to_bytes(8, "little") + b"[" * 40_000 + b"\x00" * 40,
        (23).to_bytes(8, "little") + b'{"a": {}, "a": {}}     ' + b"\x00" * 40,
    ],
)
def test_weights_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ConfideError) as caught:
        weights_from_safetensors(data, SPEC)
    assert caught.value.code is ErrorCode.INVALID_MODEL


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_not_finite_are_refused_both_ways(value: float) -> None:
    weights = some_weights()
    payload = np.full(10, value, "<f4").tobytes()
    with pytest.raises(ConfideError, match="NaN or infinite"):
        weights_from_safetensors(with_header({}, payload), SPEC)
    weights["out.weight"][0, 0] = value
    with pytest.raises(ConfideError, match=r"out\.weight"):
        weights_to_safetensors(weights, SPEC)


def test_weights_of_other_names_shapes_and_types_are_all_reported() -> None:
    weights: dict[str, NDArray[np.float32]] = {"hidden.weight": np.zeros((3, 2), np.float32), "hidden.bias": np.zeros(2)}
    with pytest.raises(ConfideError) as caught:
        weights_to_safetensors({**weights, "extra": np.zeros(1, np.float32)}, SPEC)
    assert {problem.where for problem in caught.value.problems} == {"out.weight", "", "hidden.weight", "hidden.bias"}
