"""Whether two models are one but for some digits: told by their answers, not by their parameters."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.model.layers import Linear, Relu
from protocols.model.likeness import ALIKE, NUMBERS, are_alike, sketch_of
from protocols.model.spec import ModelSpec

FEATURES, HIDDEN = 6, 12
NETWORK = ModelSpec.chain(FEATURES, first=Linear(HIDDEN), relu=Relu(), last=Linear(3))
Weights = dict[str, np.ndarray]


def weights_of(seed: int) -> Weights:
    draw = np.random.default_rng(seed)
    return {parameter.name: draw.normal(0, 0.5, parameter.shape).astype(np.float32) for parameter in NETWORK.parameters}


def changed(weights: Weights, by: float) -> Weights:
    draw = np.random.default_rng(99)
    return {name: (value * (1 + by * draw.uniform(-1, 1, value.shape))).astype(np.float32) for name, value in weights.items()}


def reordered(weights: Weights) -> Weights:
    order = np.random.default_rng(3).permutation(HIDDEN)
    return {
        "first.weight": weights["first.weight"][order],
        "first.bias": weights["first.bias"][order],
        "last.weight": weights["last.weight"][:, order],
        "last.bias": weights["last.bias"],
    }


def scaled(weights: Weights) -> Weights:
    return {name: value * 3 if name.startswith("last") else value for name, value in weights.items()}


@pytest.mark.parametrize("seed", range(5))
def test_model_is_told_again_with_other_digits_order_or_scale(seed: int) -> None:
    one = weights_of(seed)
    # Digits of a ten-thousandth move answers by less than a thousandth of their spread, a tenth of what counts.
    for other in (changed(one, 1e-4), reordered(one), scaled(one)):
        assert are_alike(sketch_of(NETWORK, one), sketch_of(NETWORK, other))


def test_other_models_of_the_same_form_are_others() -> None:
    sketches = [sketch_of(NETWORK, weights_of(seed)) for seed in range(30)]
    assert not any(are_alike(one, other) for place, one in enumerate(sketches) for other in sketches[:place])
    # A fifth of every weight is another model too.
    assert not are_alike(sketches[0], sketch_of(NETWORK, changed(weights_of(0), 0.2)))


def test_sketch_is_eight_numbers_whose_distance_is_that_of_the_answers() -> None:
    one, other = weights_of(0), changed(weights_of(0), 0.02)
    distance = float(np.linalg.norm(sketch_of(NETWORK, one) - sketch_of(NETWORK, other)))
    assert sketch_of(NETWORK, one).shape == (NUMBERS,)
    # Two per cent of the weights: about as much of the answers, several times what counts as the same.
    assert ALIKE / 4 < distance < 10 * ALIKE


def test_model_that_answers_one_thing_and_one_of_other_inputs_have_sketches() -> None:
    constant = {name: np.zeros_like(value) for name, value in weights_of(0).items()}
    assert not sketch_of(NETWORK, constant).any()
    wider = ModelSpec.chain(FEATURES + 1, last=Linear(1))
    weights = {parameter.name: np.ones(parameter.shape, np.float32) for parameter in wider.parameters}
    assert not are_alike(sketch_of(wider, weights), sketch_of(NETWORK, weights_of(0)))
