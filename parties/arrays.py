"""Arrays as bytes, in sealed files and on a worker's channel: safetensors, which cannot carry code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from protocols.errors import ConfideError, ErrorCode

Arrays = Mapping[str, NDArray[Any]]


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Returns the arrays as safetensors bytes; secret if the arrays are."""
    # safetensors writes the memory as it lies: a view or a transposed array must be laid out first.
    data: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def arrays_from_bytes(data: bytes) -> dict[str, NDArray[Any]]:
    """Returns the arrays of `arrays_to_bytes`.

    Raises:
        ConfideError: STATE_DAMAGED (the operator's fault): the bytes are not safetensors.
    """
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConfideError(ErrorCode.STATE_DAMAGED, "a sealed file does not hold arrays") from error
    return arrays
