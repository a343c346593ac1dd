"""The largest value of a row and its place, exactly, with ties, at the borders of the ring's half that is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.errors import ConfideError
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.maximum import maximum
from tests.support.mpc_world import ProtocolRun, run_protocol, split


def largest(values: np.ndarray, num_parties: int) -> ProtocolRun:
    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        value, one_hot = yield from maximum(engine, mine[0])
        return np.concatenate([value[:, None], one_hot], axis=1)

    return run_protocol(protocol, [[s] for s in split(values, num_parties)])


@pytest.mark.parametrize("num_parties", [2, 3, 5])
@pytest.mark.parametrize(
    ("columns", "rounds"), [(1, 0), (2, 5), (3, 5), (8, 5), (10, 5), (16, 5), (17, 11), (33, 11), (64, 11), (130, 17)]
)
def test_maximum_is_exact_and_ties_go_to_the_lowest_index(num_parties: int, columns: int, rounds: int) -> None:
    rng = np.random.default_rng(columns)
    values = rng.integers(-3, 3, (24, columns))  # many ties
    values[0], values[1] = -(2**61), 2**61 - 1
    values[2] = rng.choice([-(2**61), 2**61 - 1], columns)
    values[3:8] = rng.integers(-(2**61), 2**61, (5, columns))
    run = largest(values, num_parties)
    assert np.array_equal(run.value[:, 0], values.max(axis=1))
    assert np.array_equal(run.value[:, 1:], np.eye(columns, dtype=np.int64)[values.argmax(axis=1)])
    assert run.rounds == rounds


@pytest.mark.parametrize("columns", [2, 10, 16])
def test_costs_are_as_stated(columns: int) -> None:
    run = largest(np.zeros((80, columns), np.int64), 2)
    pairs, table = columns * (columns - 1) // 2, 2 ** (columns - 1).bit_length()
    assert run.opened_bytes == 80 * (12.25 * pairs + 16 * columns)
    assert run.correction_bytes == 80 * (45.125 * pairs + 16 * columns * table)


def test_largest_of_no_values_is_refused() -> None:
    with pytest.raises(ConfideError):
        largest(np.zeros((3, 0), np.int64), 2)
