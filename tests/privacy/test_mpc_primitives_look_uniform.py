"""Everything that a primitive opens, and every message of it, has the byte statistics of uniform noise; seeds are fixed.

All elements are equal, so any structure that leaks would show in every byte. Padding bits do not occur: counts are multiples
of eight.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2

from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.exponential import exp, exp_nonpositive
from protocols.mpc.primitives.logarithm import log
from protocols.mpc.primitives.maximum import equal_zero, maximum
from protocols.mpc.primitives.multiplication import multiply, truncate_and_multiply
from protocols.mpc.primitives.products import partial_product
from protocols.mpc.primitives.reciprocal import reciprocal
from protocols.mpc.primitives.relu import gate, rectify, relu, select
from protocols.mpc.primitives.roots import inverse_sqrt, sqrt
from protocols.mpc.primitives.softmax import log_softmax, softmax
from protocols.mpc.primitives.tanh import tanh
from protocols.mpc.primitives.truncation import truncate, truncate_roughly
from protocols.mpc.values import SharedValue, ValueView
from tests.support.memory_links import all_bytes
from tests.support.mpc_world import run_protocol, split

SHAPE = (800, 2)
SCALE_BITS = 16


def _rectify_and_gate(engine: Engine, share: np.ndarray) -> Steps[object]:
    """A product goes into the gate, as in a backward pass."""
    view = ValueView(SharedValue(share[:20], scale_bits=SCALE_BITS, magnitude_bits=20))
    rectified = yield from rectify(engine, share[:400].reshape(20, 40)[:, :20], 7)
    product = yield from partial_product(engine, view, view.transpose)
    return (yield from gate(engine, product.times(3), rectified.bit, 9))


def _truncate_product(engine: Engine, share: np.ndarray) -> Steps[object]:
    """As a step of a training ends."""
    view = ValueView(SharedValue(share[:256], scale_bits=SCALE_BITS, magnitude_bits=20))
    product = yield from partial_product(engine, view, view.transpose)
    # One bit of each element is opened.
    return (yield from truncate_roughly(engine, product.times(3), 32))


PROTOCOLS: dict[str, Callable[[Engine, np.ndarray], Steps[object]]] = {
    "equal_zero": equal_zero,
    "exp": lambda engine, share: exp(engine, share, SCALE_BITS),
    "exp_nonpositive": lambda engine, share: exp_nonpositive(engine, share, SCALE_BITS),
    "inverse_sqrt": lambda engine, share: inverse_sqrt(engine, share, SCALE_BITS),
    "log": lambda engine, share: log(engine, share, SCALE_BITS),
    "log_softmax": lambda engine, share: log_softmax(engine, share, SCALE_BITS),
    "maximum": maximum,
    "multiply": lambda engine, share: multiply(engine, share, share),
    "reciprocal": lambda engine, share: reciprocal(engine, share, SCALE_BITS),
    "rectify": lambda engine, share: rectify(engine, share, 5),
    "relu": relu,
    "rectify_and_gate": _rectify_and_gate,
    "select": lambda engine, share: select(engine, share, share, share),
    "softmax": lambda engine, share: softmax(engine, share, SCALE_BITS),
    "sqrt": lambda engine, share: sqrt(engine, share, SCALE_BITS),
    "tanh": lambda engine, share: tanh(engine, share, SCALE_BITS, SCALE_BITS + 20),
    "rough_truncation_of_product": _truncate_product,
    "truncate_and_multiply": lambda engine, share: truncate_and_multiply(engine, share, 16, share),
}


def assert_looks_uniform(data: np.ndarray) -> None:
    """Chi-square over byte values; 1e-6 on either side, with fixed seeds, never fails by chance."""
    assert data.size >= 256 * 20
    counts = np.bincount(data, minlength=256)
    statistic = float(((counts - data.size / 256) ** 2 / (data.size / 256)).sum())
    assert chi2.ppf(1e-6, 255) < statistic < chi2.ppf(1 - 1e-6, 255)


@pytest.mark.parametrize("element", [0, -(3 << SCALE_BITS)])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_messages_and_openings_of_a_primitive_look_uniform(name: str, element: int) -> None:
    values = np.full(SHAPE, element)
    run = run_protocol(lambda engine, mine: _ignoring_result(PROTOCOLS[name](engine, mine[0])), [[s] for s in split(values, 2)])
    sent = [[array for _, arrays in run.links[one][two].log for array in arrays] for one, two in (("p0", "p1"), ("p1", "p0"))]
    # The corrections are uniform as well: they hide the last party's shares under the others'.
    dealt = [array for _, arrays in run.links["dealer"]["p1"].log for array in arrays]
    opened = [a ^ b if a.dtype == np.uint8 else a + b for a, b in zip(*sent, strict=True)]
    for arrays in (*sent, opened, dealt):
        assert_looks_uniform(all_bytes(arrays))


@pytest.mark.parametrize("element", [0, -(3 << SCALE_BITS)])
@pytest.mark.parametrize("cut", [truncate, truncate_roughly])
def test_messages_of_a_truncation_among_three_look_uniform(cut: Callable[..., Steps[np.ndarray]], element: int) -> None:
    # Two parties truncate otherwise than more do.
    shares = [[share] for share in split(np.full((3200, 2), element), 3)]
    run = run_protocol(lambda engine, mine: cut(engine, mine[0], 40), shares)
    sent = [run.links[one][two].log[0][1][0] for one, two in (("p0", "p1"), ("p1", "p2"), ("p2", "p0"))]
    dealt = [array for _, arrays in run.links["dealer"]["p2"].log for array in arrays]
    for arrays in ([sent[0]], [sent[1]], [sent[2]], [sent[0] + sent[1] + sent[2]], dealt):
        assert_looks_uniform(all_bytes(arrays))


def _ignoring_result(protocol: Steps[object]) -> Steps[np.ndarray]:
    yield from protocol
    return np.zeros(1, np.int64)
