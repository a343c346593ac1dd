"""Weights as safetensors bytes, read with a parser that accepts nothing but the tensors it expects.

The format is a length, a JSON header and raw numbers (huggingface/safetensors). Bytes that come from somebody else are
compared with the `ModelSpec`: sizes first, then the header, then every name, type, shape and offset, then every value.
Nothing is allocated on the sender's word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.spec import ModelSpec, ParameterSpec

MAX_HEADER_BYTES = 65_536
MAX_WEIGHT_BYTES = 256 * 1024 * 1024
_LENGTH_BYTES = 8
_REMEDY = "export the model again and send its bytes unchanged"


def weights_to_safetensors(weights: Mapping[str, NDArray[np.float32]], spec: ModelSpec) -> bytes:
    """Returns the weights of a model as safetensors bytes; equal weights give equal bytes.

    Args:
        weights: float32 arrays by parameter name, exactly those of the specification; as secret as the result.
        spec: the architecture.

    Raises:
        ConfideError: INVALID_MODEL (the caller's fault): names, types, shapes or values do not fit.
    """
    problems = _misnamed(set(weights), spec)
    for parameter in spec.parameters:
        values = weights.get(parameter.name)
        if values is None:
            continue
        if values.dtype != np.float32 or values.shape != parameter.shape:
            problems.append(Problem(parameter.name, f"must be float32 of shape {parameter.shape}", "convert it"))
        else:
            problems += _value_problems(parameter, values)
    if problems:
        raise _refused(problems)
    return save({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)})


def weights_from_safetensors(data: bytes, spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Reads the weights of a model from bytes that nobody vouches for.

    Args:
        data: safetensors bytes, of at most `MAX_WEIGHT_BYTES`.
        spec: the architecture that the weights must fit exactly.

    Returns:
        Read-only float32 arrays by parameter name, in the order of `spec.parameters`.

    Raises:
        ConfideError: INVALID_MODEL (the sender's fault) for anything but exactly the F32 tensors of the specification, finite,
            no variance negative, without gaps or metadata; all problems of the header at once.
    """
    expected_bytes = sum(_num_bytes(parameter) for parameter in spec.parameters)
    if len(data) > MAX_WEIGHT_BYTES or len(data) > _LENGTH_BYTES + MAX_HEADER_BYTES + expected_bytes:
        raise _malformed(f"{len(data)} bytes are more than this architecture needs")
    if len(data) < _LENGTH_BYTES:
        raise _malformed("the bytes end before the header")
    header_bytes = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise _malformed(f"the header is longer than {MAX_HEADER_BYTES} bytes")
    start = _LENGTH_BYTES + header_bytes
    if len(data) != start + expected_bytes:
        raise _malformed(f"{max(0, len(data) - start)} bytes of weights instead of {expected_bytes}")
    header = _header(data[_LENGTH_BYTES:start])
    problems = _misnamed(set(header), spec)
    problems += [problem for p in spec.parameters if p.name in header for problem in _entry_problems(header[p.name], p)]
    problems = problems or _layout_problems(header, expected_bytes)
    if problems:
        raise _refused(problems)
    weights = {}
    for parameter in spec.parameters:
        offset = start + header[parameter.name]["data_offsets"][0]
        count = _num_bytes(parameter) // 4
        # A copy in the machine's own byte order: the array must not keep the whole message alive, or be unaligned.
        values = np.frombuffer(data, "<f4", count, offset).astype(np.float32).reshape(parameter.shape)
        values.setflags(write=False)
        weights[parameter.name] = values
    problems = [problem for p in spec.parameters for problem in _value_problems(p, weights[p.name])]
    if problems:
        raise _refused(problems)
    return weights


def _header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _malformed("the header is not JSON with distinct keys") from error
    if not isinstance(header, dict):
        raise _malformed("the header is not an object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _misnamed(names: set[str], spec: ModelSpec) -> list[Problem]:
    expected = {parameter.name for parameter in spec.parameters}
    problems = [Problem(name, "missing", "add it") for name in sorted(expected - names)]
    if names - expected:
        # The surplus names are the sender's text, up to the whole header, so they are counted and not repeated.
        problems.append(Problem("", f"{len(names - expected)} entry or entries that the model does not have", "remove them"))
    return problems


def _entry_problems(entry: object, parameter: ParameterSpec) -> list[Problem]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return [Problem(parameter.name, "must have exactly dtype, shape and data_offsets", _REMEDY)]
    problems = []
    if entry["dtype"] != "F32":
        problems.append(Problem(parameter.name, "is not F32", "convert it to float32"))
    if not _whole_numbers(entry["shape"]) or tuple(entry["shape"]) != parameter.shape:
        problems.append(Problem(parameter.name, f"has not the shape {parameter.shape}", _REMEDY))
    offsets = entry["data_offsets"]
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != _num_bytes(parameter):
        problems.append(Problem(parameter.name, f"does not span {_num_bytes(parameter)} bytes", _REMEDY))
    return problems


def _layout_problems(header: dict[str, Any], expected_bytes: int) -> list[Problem]:
    """Tensors must follow each other without gap or overlap, so that every byte is accounted for."""
    position = 0
    for begin, end in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != position:
            return [Problem("", "tensors overlap or leave a gap", _REMEDY)]
        position = end
    return [] if position == expected_bytes else [Problem("", "tensors do not cover the bytes", _REMEDY)]


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _num_bytes(parameter: ParameterSpec) -> int:
    count = 4
    for length in parameter.shape:
        count *= length
    return count


def _value_problems(parameter: ParameterSpec, values: NDArray[np.float32]) -> list[Problem]:
    if not np.isfinite(values).all():
        return [Problem(parameter.name, "holds NaN or infinite values", "train or initialise it again")]
    if not parameter.is_trained and parameter.name.endswith(".running_var") and (values < 0).any():
        return [Problem(parameter.name, "holds a negative variance", "train or initialise it again")]
    return []


def _refused(problems: list[Problem]) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, f"{len(problems)} problem(s) in the weights", problems=problems)


def _malformed(what: str) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_MODEL, f"the weights are not safetensors of this model: {what}", remedy=_REMEDY)
