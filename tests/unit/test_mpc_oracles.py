"""Every operation of docs/tensors.md at the borders of its domain, forward and gradient, among 2, 3 and 5 parties.

All cases of a run share one program, so that parties are set up once; the table with its bounds is
tests/support/operator_cases.py. An operation or a row of the page without a case fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protocols.fixed_point import VALUE_BITS
from protocols.mpc.tensor import operations, use_coin
from tests.support import operator_cases
from tests.support.operator_cases import CHOICES, FUNCTIONS, LINEAR, PRODUCTS, UNIT, OperatorCase
from tests.support.operator_cases_layers import LAYERS
from tests.support.tensor_world import run_tensors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tensors.md"
DECLARED_BITS = VALUE_BITS + 20
OPENED_BITS = 24
GROUPS = {"linear": LINEAR, "products": PRODUCTS, "choices": CHOICES, "functions": FUNCTIONS, "layers": LAYERS}
CASES = {name: case for group in GROUPS.values() for name, case in group.items()}


def failures_of(cases: Mapping[str, OperatorCase], parties: int) -> list[str]:
    """Runs all cases in one program and returns what is beyond its bound."""
    inputs = {f"{name} {index}": values for name, case in cases.items() for index, values in enumerate(case.inputs)}
    differentiable = tuple(
        f"{name} {index}" for name, case in cases.items() if case.gradient is not None for index in range(len(case.inputs))
    )
    expected, weights, slopes = {}, {}, {}
    for name, case in cases.items():
        theirs = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in case.inputs]
        expected[name] = (case.oracle or case.ours)(*theirs)
        weights[name] = torch.tensor(np.random.default_rng(11).integers(-8, 9, expected[name].shape) / 8, dtype=torch.float64)
        if case.gradient is not None:
            (expected[name] * weights[name]).sum().backward()
        for index, tensor in enumerate(theirs):
            slopes[f"{name} {index}"] = None if tensor.grad is None else tensor.grad.numpy()

    def program(tensors: Any) -> Any:
        results = {}
        for name, case in cases.items():
            taken = [tensors[f"{name} {index}"] for index in range(len(case.inputs))]
            result = case.ours(*taken)
            results[name] = result.detach()
            if case.gradient is not None:
                (result * weights[name]).sum().backward()
                results |= {f"{name} {index}": tensor.grad for index, tensor in enumerate(taken)}
        return results

    run = run_tensors(
        program, inputs, parties=parties, grad=differentiable, magnitude_bits=DECLARED_BITS, result_bits=OPENED_BITS
    )
    wrong = []
    for name, case in cases.items():
        truth = np.asarray(expected[name].detach().numpy(), dtype=np.float64)
        wrong += _beyond(name, run.values[name], truth, case.forward)
        for index in range(len(case.inputs)):
            slope = slopes[f"{name} {index}"]
            if case.gradient is not None and slope is not None:
                wrong += _beyond(f"{name}: slope {index}", run.values[f"{name} {index}"], slope, case.gradient)
    return wrong


def _beyond(name: str, found: np.ndarray, truth: np.ndarray, bound: float | np.ndarray) -> list[str]:
    if found.shape != truth.shape:
        return [f"{name}: shape {found.shape}, not {truth.shape}"]
    error = np.abs(found - truth)
    return (
        [] if (error <= bound).all() else [f"{name}: off by {error.max():.3g}, {(error / np.maximum(bound, 1e-99)).max():.3g} x"]
    )


@pytest.mark.parametrize("parties", [2, 3, 5])
@pytest.mark.parametrize("group", GROUPS)
def test_operation_at_its_borders_equals_the_oracle(group: str, parties: int) -> None:
    assert failures_of(GROUPS[group], parties) == []


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_dropout_keeps_what_its_public_coin_says(parties: int) -> None:
    values = np.arange(1, 65).reshape(8, 8) * 2.0**13

    def program(tensors: Any) -> Any:
        with use_coin("ab" * 16, 4):
            result = tensors["x"].dropout(0.5)
        result.sum().backward()
        return {"result": result.detach(), "gradient": tensors["x"].grad}

    run = run_tensors(program, {"x": values}, parties=parties, grad=("x",), magnitude_bits=DECLARED_BITS, result_bits=OPENED_BITS)
    kept = run.values["gradient"] == 2
    # 64 coins: further than 5 standard deviations of 4 from 32 is no coin.
    assert 12 <= kept.sum() <= 52
    assert np.array_equal(run.values["gradient"], 2.0 * kept)
    assert np.array_equal(run.values["result"], np.where(kept, 2 * values, 0))


def test_every_operation_has_a_case() -> None:
    covered = {name for case in CASES.values() for name in case.covers} | set(operator_cases.COVERED_ELSEWHERE)
    assert {*operations.METHODS, *operations.STATIC} - covered == set()


def test_every_row_of_the_page_has_a_case() -> None:
    covered = {name for case in CASES.values() for name in case.covers} | set(operator_cases.COVERED_ELSEWHERE)
    table = PAGE.read_text(encoding="utf-8").split("| operations | rounds | error |")[1].split("\n\n")[0]
    for row in table.splitlines()[2:]:
        named = set(re.findall(r"`([a-z_0-9]+)`", row.split(" | ")[0]))
        assert named & covered, f"no case for the row {row[:60]}"


def test_inputs_of_cases_are_encoded_exactly() -> None:
    for name, case in CASES.items():
        for values in case.inputs:
            assert np.array_equal(values, np.rint(values / UNIT) * UNIT), name
            assert np.abs(values).max() <= operator_cases.TOP, name


def test_cases_of_differentiable_operations_have_gradients() -> None:
    flat = {name for name, case in CASES.items() if case.gradient is None}
    differentiable = {name for case in CASES.values() if case.gradient is not None for name in case.covers}
    assert {name for key in flat for name in CASES[key].covers} - differentiable == {
        "argmax", "argmin", "ge", "gt", "le", "lt", "eq", "ne", "sign",
    }  # fmt: skip


def test_oracle_notices_an_error_of_two_units() -> None:
    shifted = {
        "relu": OperatorCase(("relu",), lambda x: x.relu() + 2 * UNIT, CHOICES["relu"].inputs, oracle=CHOICES["relu"].oracle)
    }
    assert failures_of(shifted, 2) == ["relu: off by 3.05e-05, 256 x"]
