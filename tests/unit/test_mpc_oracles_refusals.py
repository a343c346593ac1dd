"""NaN, infinity and numbers beyond the declared range are refused at every entrance, before anything is shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_LIMIT_BITS, VALUE_LIMIT_BITS
from protocols.job import JobType, Task
from protocols.model.layers import Linear, Relu
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_from_safetensors, weights_to_safetensors
from protocols.mpc.inputs import ROW_LIMIT, LocalInputs
from protocols.mpc.planning import derive_plan
from protocols.mpc.query import share_query
from protocols.mpc.tensor import SharedTensor
from tests.support.jobs import sgd
from tests.support.memory_links import connect
from tests.support.mpc_world import a_job
from tests.support.programs import some_weights
from tests.support.tensor_world import run_tensors

MODEL = ModelSpec.chain(3, first=Linear(2), relu=Relu(), last=Linear(1))
NOT_FINITE = [float("nan"), float("inf"), -float("inf")]
FINITE = np.array([[0.25, -0.5, 1.0], [0.0, 0.75, -1.0]])


def _with(value: float) -> np.ndarray:
    values = FINITE.copy()
    values[1, 2] = value
    return values


def _train(rows: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trains; returns the links, so that what was sent before a refusal can be looked at."""
    from tests.support import mpc_world

    job = a_job(JobType.TRAIN, rows={"alpha": 2}, model=MODEL, features=3, training=sgd(1, 2, "0.5"))
    kept: list[Any] = []

    def noted(names: Any) -> Any:
        links = connect(names)
        kept.append(links)
        return links

    monkeypatch.setattr(mpc_world, "connect", noted)
    inputs = {
        "alpha": LocalInputs(rows={0: (rows, labels)}, initial_weights=weights),
        "beta": LocalInputs(initial_weights=weights),
    }
    with pytest.raises(ConfideError) as caught:
        mpc_world.run_world(job, derive_plan(job), inputs)
    return [caught.value, kept[0]]


@pytest.mark.parametrize("value", [*NOT_FINITE, ROW_LIMIT + 2.0**-10, -1e300])
def test_row_that_cannot_be_shared_is_refused_and_its_owner_sends_nothing(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    error, links = _train(_with(value), np.array([0.0, 1.0]), some_weights(MODEL), monkeypatch)
    assert error.code is ErrorCode.INVALID_DATA
    assert str(value) not in str(error)
    assert [link.log for link in links["alpha"].values()] == [[] for _ in links["alpha"]]


@pytest.mark.parametrize("value", [*NOT_FINITE, 0.5, 2.0])
def test_label_that_is_none_is_refused_and_its_owner_sends_nothing(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    error, links = _train(FINITE, np.array([0.0, value]), some_weights(MODEL), monkeypatch)
    assert error.code is ErrorCode.INVALID_DATA
    assert [link.log for link in links["alpha"].values()] == [[] for _ in links["alpha"]]


@pytest.mark.parametrize("value", [*NOT_FINITE, 2.0**PARAMETER_LIMIT_BITS + 1])
def test_initial_weight_that_cannot_be_held_is_refused(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = some_weights(MODEL)
    weights["first.weight"][1, 1] = value
    error, links = _train(FINITE, np.array([0.0, 1.0]), weights, monkeypatch)
    assert error.code is ErrorCode.INVALID_MODEL
    assert [link.log for link in links["alpha"].values()] == [[] for _ in links["alpha"]]


@pytest.mark.parametrize("value", [*NOT_FINITE, ROW_LIMIT + 2.0**-10, -1e300])
def test_query_that_cannot_be_shared_is_refused_before_randomness_is_drawn(value: float) -> None:
    class Untouched:
        def take(self, count: int) -> np.ndarray:
            raise AssertionError("randomness was drawn for a query that is refused")

    with pytest.raises(ConfideError) as caught:
        share_query(_with(value), num_parties=2, source=Untouched())
    assert caught.value.code is ErrorCode.INVALID_DATA
    assert [problem.where for problem in caught.value.problems] == ["position 1, 2"]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_weights_that_are_not_finite_are_neither_written_nor_read(value: float) -> None:
    weights = {name: values.astype(np.float32) for name, values in some_weights(MODEL).items()}
    good = weights_to_safetensors(weights, MODEL)
    weights["last.bias"][0] = value
    with pytest.raises(ConfideError) as written:
        weights_to_safetensors(weights, MODEL)
    # The bias is the file's last tensor by name; the numbers lie at its end in the order of the header.
    plain = {name: values for name, values in weights.items() if name != "last.bias"}
    blob = np.array([value], np.float32).tobytes()
    place = _place_of(good, weights_to_safetensors({**plain, "last.bias": np.array([7.0], np.float32)}, MODEL))
    with pytest.raises(ConfideError) as read:
        weights_from_safetensors(good[:place] + blob + good[place + 4 :], MODEL)
    assert written.value.code is read.value.code is ErrorCode.INVALID_MODEL
    assert [problem.where for problem in read.value.problems] == ["last.bias"]


def _place_of(one: bytes, other: bytes) -> int:
    """Where the four bytes begin in which two files of one layout differ."""
    differing = [index for index, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    return differing[0] - differing[0] % 4


CONSTANTS: dict[str, Callable[[Any, float], Any]] = {
    "a number added": lambda x, value: x + value,
    "a number multiplied": lambda x, value: x * value,
    "a number divided by": lambda x, value: x / value,
    "a tensor added": lambda x, value: x + torch.tensor([[value] * 3]),
    "a tensor multiplied": lambda x, value: x * torch.tensor([[value] * 3]),
    "a tensor subtracted from": lambda x, value: torch.tensor([[value] * 3]) - x,
    "a matrix multiplied": lambda x, value: x @ torch.tensor([[value]] * 3),
    "a tensor of its own": lambda x, value: SharedTensor(torch.tensor([value])) * x.sum(),
    "a public start of a parameter": lambda x, value: SharedTensor(torch.tensor([value]), requires_grad=True) * x.sum(),
}


@pytest.mark.parametrize("value", [*NOT_FINITE, 2.0 ** (VALUE_LIMIT_BITS + 2)])
def test_constant_of_a_program_that_cannot_be_held_is_refused_by_the_dry_run(value: float) -> None:
    def program(tensors: Any) -> Any:
        for name, operation in CONSTANTS.items():
            # A finite public factor is kept as a fraction, however large; what becomes a tensor of its own is held at 16 bits.
            if not np.isfinite(value) or ("tensor" in name and "multiplied" not in name):
                with pytest.raises(ConfideError) as caught:
                    operation(tensors["x"], value).settle(16)
                assert caught.value.code in (ErrorCode.INVALID_MODEL, ErrorCode.INVALID_DATA), name
        raise StopIteration

    with pytest.raises(StopIteration):
        run_tensors(program, {"x": FINITE})


def test_evaluation_refuses_rows_of_another_scale() -> None:
    job = a_job(JobType.EVALUATE, rows={"alpha": 2}, model=MODEL, features=3, task=Task.BINARY)
    from protocols.mpc.inputs import check_inputs

    with pytest.raises(ConfideError) as caught:
        check_inputs(job, "alpha", LocalInputs(rows={0: (FINITE * 255, np.array([0.0, 1.0]))}))
    assert caught.value.code is ErrorCode.INVALID_DATA
