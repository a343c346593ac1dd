"""What `engine_runner.py` can time: programs on shares that have no job type of their own. Add one here to time a protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.convolutions import Geometry
from protocols.mpc.engine import Engine
from protocols.ring import RingArray

UNIT = 2.0**-VALUE_BITS


@dataclass(frozen=True)
class EngineTask:
    """A program on shares.

    Attributes:
        inputs: float64 values, known to the benchmark, encoded at 16 fractional bits and shared.
        compute: from the engine and this party's shares of the inputs to its shares of the results; no state between runs.
        expected: what the opened results must be, as float64.
        scale_bits: fractional bits of the results.
        max_error: the largest difference from it that the protocol's page allows.
        parties: how many compute.
    """

    inputs: tuple[np.ndarray, ...]
    compute: Callable[[Engine, Sequence[RingArray]], list[RingArray]]
    expected: tuple[np.ndarray, ...]
    scale_bits: int
    max_error: float
    parties: int = 2

    def encoded(self) -> tuple[RingArray, ...]:
        """Returns the inputs as ring elements."""
        return tuple(np.rint(values * 2.0**VALUE_BITS).astype(np.int64) for values in self.inputs)


def _grid(shape: tuple[int, ...], *, bound: int, seed: int = 1) -> np.ndarray:
    """Multiples of 2^-16 up to a bound, so that encoding them is exact."""
    return np.random.default_rng(seed).integers(-bound << VALUE_BITS, bound << VALUE_BITS, shape) * UNIT


def relu_100k() -> EngineTask:
    """max(x, 0) of 100 000 elements."""
    from protocols.mpc.primitives.relu import relu

    values = _grid((100_000,), bound=8)

    def compute(engine: Engine, shares: Sequence[RingArray]) -> list[RingArray]:
        return [engine.run(relu(engine, shares[0]))[0]]

    return EngineTask((values,), compute, (np.maximum(values, 0),), VALUE_BITS, 0.0)


def maxpool() -> EngineTask:
    """The largest of each 2x2 square of 32 x 20 x 24 x 24, as the layer of a network computes it in its forward pass."""
    values = _grid((32, 20, 24, 24), bound=8)

    windows = Geometry((24, 24), (2, 2), (2, 2), (0, 0), 1)

    def pool(tensors: Sequence[Any]) -> list[Any]:
        return [tensors[0].max_pool(windows)]

    largest = values.reshape(32, 20, 12, 2, 12, 2).max(axis=(3, 5))
    return EngineTask((values,), on_tensors(pool), (largest,), VALUE_BITS, UNIT)


def on_tensors(program: Callable[[Sequence[Any]], list[Any]], *, magnitude_bits: int = 20) -> Any:
    """Returns the `compute` of a program on shared tensors; results are settled at 16 fractional bits."""

    def compute(engine: Engine, shares: Sequence[RingArray]) -> list[RingArray]:
        from protocols.mpc.tensor import SharedTensor, use_engine
        from protocols.mpc.values import SharedValue

        with use_engine(engine):
            tensors = [
                SharedTensor.of(SharedValue(share, scale_bits=VALUE_BITS, magnitude_bits=magnitude_bits)) for share in shares
            ]
            return [tensor.settle(VALUE_BITS).share for tensor in program(tensors)]

    return compute


def with_parties(make: Callable[[], EngineTask], parties: int) -> Callable[[], EngineTask]:
    """Returns the same task among more parties."""
    return lambda: replace(make(), parties=parties)


TASKS: Mapping[str, Callable[[], EngineTask]] = {
    "relu-100k": relu_100k,
    "relu-100k-3-parties": with_parties(relu_100k, 3),
    "maxpool": maxpool,
}
