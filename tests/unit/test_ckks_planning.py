"""The plan as a document: it reads back exactly, and nothing else is read."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from protocols.canonical import canonical_bytes, parse_canonical
from protocols.ckks.latency_planning import Declared, plan_latency
from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError, ErrorCode
from tests.support.encrypted_models import LOGISTIC, PERCEPTRON, random_weights

PLAN = plan_latency(PERCEPTRON, random_weights(PERCEPTRON), Declared(-1.0, 1.0))
PACKED = plan_latency(LOGISTIC, random_weights(LOGISTIC), Declared(-1.0, 1.0), samples=64)


@pytest.mark.parametrize("plan", [PLAN, PACKED])
def test_plan_reads_back_from_its_canonical_bytes(plan: EncryptedPlan) -> None:
    data = canonical_bytes(plan.to_document())
    again = EncryptedPlan.from_document(parse_canonical(data))
    assert again == plan
    assert again.digest == plan.digest
    assert len(data) < 100_000


def changed(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    document: Any = copy.deepcopy(json.loads(json.dumps(PLAN.to_document())))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return dict(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "confide.encrypted-plan/0"),
        (("more",), 1),
        (("lane",), "batch"),
        (("lane",), "fast"),
        (("parameters", "ring_degree"), 1024),
        (("num_features",), 0),
        (("num_features",), True),
        (("num_outputs",), 1),
        (("samples",), 1 << 20),
        (("fresh_level",), 9),
        (("fresh_scale",), "nan"),
        (("fresh_scale",), "1e400"),
        (("fresh_scale",), 2.0),
        (("input_low",), "2.0"),
        (("input_slots",), []),
        (("input_slots",), [[0]]),
        (("input_slots", 0, 3), 50),
        (("input_slots", 0, 3), "1"),
        (("output_slots", 0), [0] * 4096),
        (("client_activation",), "relu"),
        (("steps", 0, "level"), "0"),
        (("steps", 0, "extra"), 0),
        (("steps", 1, "splits"), [1] * 300),
        (("predictions", "max_error"), 0.1),
        (("keys", "rotations"), [[1, 9]]),
    ],
)
def test_document_that_is_no_plan_is_refused(path: tuple[Any, ...], value: object) -> None:
    with pytest.raises(ConfideError) as caught:
        EncryptedPlan.from_document(changed(path, value))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT


def test_rows_of_another_shape_number_or_range_are_refused_by_name() -> None:
    good = np.zeros((1, 50))
    assert PLAN.lay_out(good).shape == (1, PLAN.parameters.slots)
    for rows, says in (
        (np.zeros((2, 50)), "1 to 1 rows"),
        (np.zeros((1, 49)), "50 features"),
        (np.zeros(50), "features"),
        (np.where(np.arange(50) == 7, 1.5, good), "row 0, feature 7"),
        (np.where(np.arange(50) == 7, np.nan, good), "row 0, feature 7"),
    ):
        with pytest.raises(ConfideError, match=says):
            PLAN.lay_out(rows)


def test_fewer_samples_than_fit_are_laid_out_beside_zeros_and_read_alone() -> None:
    rows = np.random.default_rng(1).uniform(-1, 1, (3, 30))
    slots = PACKED.lay_out(rows)[0]
    places = np.array(PACKED.input_slots[0])
    for sample in range(3):
        for feature in (0, 29):
            assert (slots[places == sample * 30 + feature] == rows[sample, feature]).all()
    assert (slots[places >= 3 * 30] == 0).all()
    answer = np.arange(PACKED.parameters.slots, dtype=np.float64)[np.newaxis]
    assert PACKED.read_outputs(answer, 3).shape == (3, 1)


def test_step_of_outputs_promises_no_more_than_rounded_weights_keep() -> None:
    # Features of up to a million: the rounding of weights is far larger than the noise that a step has to hide.
    plan = plan_latency(LOGISTIC, random_weights(LOGISTIC), Declared(-1e6, 1e6))
    assert plan.predictions.max_error > 1000 * plan.predictions.noise_bound
    assert plan.predictions.max_error <= 4 * plan.precision
