"""Polynomials in the place of activations: their stated error, and models that compute nearly the same."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.ckks.approximations import activation_ranges, approximate, fit_activation
from protocols.ckks.latency_planning import Declared, plan_latency
from protocols.errors import ConfideError, ErrorCode
from protocols.model import reference
from protocols.model.layers import (
    Add,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    Gelu,
    LeakyRelu,
    Linear,
    Operator,
    Polynomial,
    Relu,
    Sigmoid,
    Square,
    Tanh,
)
from protocols.model.spec import INPUT, Layer, ModelSpec
from tests.support.encrypted_models import declared_numbers, evaluated_in_the_clear, random_weights

WITHIN = (-5.0, 5.0)
SKIPPED = ModelSpec(
    (2, 4, 4),
    (
        Layer("conv", Convolution(3, (3, 3), (1, 1), (1, 1), bias=False), (INPUT,)),
        Layer("act", Relu(), ("conv",)),
        Layer("sum", Add(), ("act", "conv")),
        Layer("flat", Flatten(), ("sum",)),
        Layer("drop", Dropout(), ("flat",)),
        Layer("gelu", Gelu(), ("drop",)),
        Layer("out", Linear(1), ("gelu",)),
        Layer("end", Sigmoid(), ("out",)),
    ),
)


@pytest.mark.parametrize(
    ("operator", "errors"),
    [
        # Published least squares of the sigmoid on [-5, 5] are off by 0.061, 0.022 and 0.007 at degrees 3, 5 and 7.
        (Sigmoid(), {3: 0.065, 5: 0.022, 7: 0.0075}),
        (Tanh(), {3: 0.4, 5: 0.25, 7: 0.16}),
        (Relu(), {2: 0.8, 4: 0.45, 6: 0.35}),
        (LeakyRelu("0.1"), {2: 0.7, 4: 0.4}),
        (Gelu(), {2: 0.6, 4: 0.25, 6: 0.12}),
    ],
)
def test_fit_is_as_close_as_its_degree_allows_and_says_so(operator: Operator, errors: dict[int, float]) -> None:
    x = np.linspace(*WITHIN, 4001)
    spec = ModelSpec.chain(1, only=operator)
    for degree, most in errors.items():
        fit = fit_activation(operator, WITHIN, degree)
        found = np.polynomial.polynomial.polyval(x / 5, [float(text) for text in fit.polynomial.coefficients])
        wanted = reference.outputs(spec, {}, x[:, None])[:, 0]
        assert np.abs(found - wanted).max() == pytest.approx(fit.max_error, rel=0.01)
        assert fit.max_error <= most


def test_even_part_of_relu_needs_no_third_power_and_a_sigmoid_no_even_one() -> None:
    assert len(fit_activation(Relu(), WITHIN, 3).polynomial.coefficients) == 3
    sigmoid = fit_activation(Sigmoid(), (-5.0, 5.0), 7).polynomial.coefficients
    assert [float(text) == 0 for text in sigmoid[2::2]] == [True] * 3


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_approximated_model_is_near_the_original_and_runs_under_encryption(degree: int) -> None:
    weights = random_weights(SKIPPED)
    rows = np.random.default_rng(1).uniform(-1, 1, (300, 32))
    ranges = activation_ranges(SKIPPED, weights, rows)
    assert set(ranges) == {"act", "gelu"}
    spec, scaled = approximate(SKIPPED, weights, ranges, degree)
    assert ModelSpec.from_document(spec.to_document()) == spec
    assert all(values.dtype == np.float32 for values in scaled.values())
    difference = np.abs(reference.logits(spec, scaled, rows) - reference.logits(SKIPPED, weights, rows)).max()
    assert difference < {2: 0.3, 3: 0.15, 5: 0.08}[degree]
    if degree == 5:  # of which two are too deep
        with pytest.raises(ConfideError, match="depth of 9"):
            plan_latency(spec, scaled, Declared(-1.0, 1.0))
        return
    plan = plan_latency(spec, scaled, Declared(-1.0, 1.0, output_limit=4.0))
    assert plan.client_activation == "sigmoid"
    expected = declared_numbers(plan, reference.logits(spec, scaled, rows[:1]))
    assert np.abs(evaluated_in_the_clear(plan, spec, scaled, rows[:1]) - expected).max() < 1e-9


def test_scaling_goes_into_a_layer_that_nothing_else_takes_and_else_stands_alone() -> None:
    weights = random_weights(SKIPPED)
    spec, _ = approximate(SKIPPED, weights, {"act": (-1.0, 3.0), "gelu": (-2.0, 2.0)}, 4)
    kinds = {layer.name: type(layer.operator) for layer in spec.layers}
    assert kinds["act_scale"] is BatchNorm  # the sum takes the convolution as it was
    assert kinds["gelu_scale"] is BatchNorm
    alone = ModelSpec.chain(3, first=Linear(4, bias=False), act=Tanh(), out=Linear(1))
    own = random_weights(alone)
    spec, scaled = approximate(alone, own, {"act": (-1.0, 3.0)}, 3)
    assert [layer.name for layer in spec.layers] == ["first", "act", "out"]
    assert np.allclose(scaled["first.weight"], own["first.weight"] / 2)
    assert np.allclose(scaled["first.bias"], -0.5)
    assert isinstance(spec.layers[1].operator, Polynomial)


def test_activations_without_a_range_are_all_named() -> None:
    with pytest.raises(ConfideError) as caught:
        approximate(SKIPPED, random_weights(SKIPPED), {}, 3)
    assert [problem.where for problem in caught.value.problems] == ["act", "gelu"]


@pytest.mark.parametrize(
    ("operator", "within", "degree"),
    [(Square(), WITHIN, 3), (Relu(), (1.0, 1.0), 3), (Relu(), (0.0, float("inf")), 3), (Relu(), WITHIN, 8), (Relu(), WITHIN, 1)],
)
def test_fit_of_something_else_or_on_no_range_is_refused(operator: Operator, within: tuple[float, float], degree: int) -> None:
    with pytest.raises(ConfideError) as caught:
        fit_activation(operator, within, degree)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
