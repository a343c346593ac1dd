"""What the evaluator does for one model, step by step, without its weights: levels, scales, layouts and rotations.

Levels: every node is computed as late, and so as cheaply, as what takes it allows; the model's result is at level 0. The last
linear step is not rescaled: its result has the product of both scales, which the first prime, far larger than the others, has
room for. That saves one prime, and with it a third of the time.

Scales: an affine node at level l has the scale s(l) with s(l) = sqrt(s(l - 1) q_l), so that a square lands on s(l - 1) and
everything added has the same scale, exactly: weights are encoded at the scale that the rescale turns into it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocols.ckks.layouts import Diagonals, Ints, Layout, LayoutMisfit, Windows, diagonals, orders, power_of_two, windows
from protocols.ckks.network import SQUARE, Affine, Network, Power
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.schedule import Grid, Rescale, grid

INPUT_NODE = 0


@dataclass(frozen=True, eq=False)
class Term:
    """The product of one earlier result with a matrix.

    Attributes:
        source: number of the node that is multiplied.
        level: at which it is; it is dropped to there.
        input_scale: its scale.
        weight_scale: at which the diagonals are encoded.
        diagonals: where the matrix' entries stand.
        grid: how rotations are shared.
        share: by which its matrix is multiplied, since the last step's terms may repeat differently often.
    """

    source: int
    level: int
    input_scale: float
    weight_scale: float
    diagonals: Diagonals
    grid: Grid
    share: float


@dataclass(frozen=True, eq=False)
class LinearStep:
    """An affine node: the sum of its terms and constants.

    Attributes:
        name: of the node.
        terms: in the order of the node's.
        level: of the result.
        scale: of the result.
        rescale: what is rescaled; in the model's last step nothing.
        layout: of the result; for the model's last step, of the sums over all slots that are equal modulo its period, which
            whoever opens the answer makes, and nobody has to rotate for.
        constant_share: by which its constants are multiplied, for the same reason.
    """

    name: str
    terms: tuple[Term, ...]
    level: int
    scale: float
    rescale: Rescale
    layout: Layout
    constant_share: float


@dataclass(frozen=True, eq=False)
class PowerStep:
    """A polynomial of a node; `start` is the level that its argument is dropped to, and `argument_scale` its scale."""

    name: str
    source: int
    coefficients: tuple[float, ...]
    start: int
    argument_scale: float
    level: int
    scale: float
    layout: Layout


@dataclass(frozen=True, eq=False)
class Program:
    """Everything but the weights.

    Attributes:
        parameters: the set.
        samples: how many stand beside each other in every slot of a layout.
        fresh_level: level of the query.
        fresh_scale: scale of the query.
        input_layout: of the query's numbers.
        input_features: the feature that each of these numbers is.
        steps: one per node.
    """

    parameters: ParameterSet
    samples: int
    fresh_level: int
    fresh_scale: float
    input_layout: Layout
    input_features: Ints
    steps: tuple[LinearStep | PowerStep, ...]

    def feature_slots(self) -> Ints:
        """Returns the feature in each slot of the ring, `samples` slots counted as one; -1 for none."""
        numbers = np.tile(self.input_layout.one_period, self.parameters.slots // self.samples // self.input_layout.period)
        return np.where(numbers < 0, -1, self.input_features[np.maximum(numbers, 0)])

    def diagonal_form(self, step: int, term: int) -> tuple[int, float]:
        """Returns the level and the scale at which the diagonals of a linear step's term are encoded."""
        linear = self.steps[step]
        if not isinstance(linear, LinearStep):
            raise TypeError("a diagonal of a polynomial")
        return linear.terms[term].level, linear.terms[term].weight_scale

    def constants_form(self, step: int) -> tuple[int, float]:
        """Returns the same for a step's constants."""
        return self.steps[step].level, self.steps[step].scale

    @property
    def answer_replicas(self) -> int:
        """How many times an output is the sum of all slots that are equal modulo the period of the last layout."""
        last = self.steps[-1]
        ring = self.parameters.slots // self.samples
        return ring // (last.layout.period if isinstance(last, PowerStep) else _repeats_after(last.terms))

    def output_slots(self) -> Ints:
        """Returns the output in each slot of the ring, likewise."""
        layout = self.steps[-1].layout
        return np.tile(layout.one_period, self.parameters.slots // self.samples // layout.period)


@dataclass(frozen=True, eq=False)
class Choices:
    """What the planner has chosen; with the architecture it makes a `Program`.

    Attributes:
        parameters: the set.
        samples: see `Program`.
        layouts: of every node by number, the input's first; None where a polynomial keeps its argument's.
        splits: per affine node by number, one for each of its terms.
        rescales: per affine node by number.
        base_scale: s(0).
        answer_scale: of the answer.
    """

    parameters: ParameterSet
    samples: int
    layouts: tuple[Layout | None, ...]
    splits: Mapping[int, tuple[int, ...]]
    rescales: Mapping[int, Rescale]
    base_scale: float
    answer_scale: float


def power_levels(coefficients: Sequence[float]) -> int:
    """Returns how many levels a polynomial takes: 1 for a square, 2 up to degree three, 3 up to degree seven."""
    return 1 if tuple(coefficients) == SQUARE else 2 if len(coefficients) <= 4 else 3


def node_levels(network: Network) -> list[int]:
    """Returns the level of every node's result, the input's first."""
    needed = [0] * (len(network.nodes) + 1)
    for number in range(len(network.nodes), 0, -1):
        node = network.nodes[number - 1]
        if isinstance(node, Power):
            needed[node.source] = max(needed[node.source], needed[number] + power_levels(node.coefficients))
            continue
        taken = 0 if number == len(network.nodes) else 1
        for source, _ in node.terms:
            needed[source] = max(needed[source], needed[number] + taken)
    return needed


def affine_scales(parameters: ParameterSet, base_scale: float) -> list[float]:
    """Returns s(l) by level; see the module."""
    found = [base_scale]
    for level in range(1, parameters.levels):
        found.append(math.sqrt(found[-1] * parameters.primes[level]))
    return found


def first_windows(network: Network, slots: int) -> Windows | None:
    """Returns the windows of the first map, where the input goes into it alone; see `protocols.ckks.layouts`."""
    takers = [node for node in network.nodes if isinstance(node, Power) and node.source == INPUT_NODE]
    maps = [node for node in network.nodes if isinstance(node, Affine) and any(source == INPUT_NODE for source, _ in node.terms)]
    if takers or len(maps) != 1 or len(maps[0].terms) != 1:
        return None
    return windows(maps[0].terms[0][1], maps[0].shape, slots)


def make_layout(kind: str, network: Network, number: int, *, stretch: int, period: int) -> Layout:
    """Returns the layout of one kind of a node's result, or of the input (number 0).

    Raises:
        LayoutMisfit: there is none of that kind, or it does not fit.
    """
    if kind == "windows":
        found = first_windows(network, period) if number == INPUT_NODE else None
        if found is None or stretch != 1:
            raise LayoutMisfit("no windows")
        return Layout(kind, found.layout.order, 1, period)
    shape = network.input_shape if number == INPUT_NODE else network.nodes[number - 1].shape
    known = orders(shape)
    if kind not in known:
        raise LayoutMisfit(f"no order {kind!r} of a row of shape {shape}")
    order = known[kind]
    if number == INPUT_NODE:
        # Whoever asks need not fill up to a power of two.
        order = order[: int(np.flatnonzero(order >= 0)[-1]) + 1]
        if len(order) * stretch > period // 2 and power_of_two(len(order)) * stretch == period:
            order = known[kind]
    return Layout(kind, order, stretch, period)


def build(network: Network, choices: Choices) -> Program:
    """Returns the program of an architecture.

    Args:
        network: `support` of the model: matrices that are zero exactly where the architecture has no weight.
        choices: of the planner.

    Raises:
        LayoutMisfit: layouts that do not fit each other.
    """
    parameters = choices.parameters
    levels = node_levels(network)
    canonical = affine_scales(parameters, choices.base_scale)
    layouts = list(choices.layouts)
    first = layouts[INPUT_NODE]
    if first is None:
        raise LayoutMisfit("the input has no layout")
    written = first_windows(network, first.period) if first.kind == "windows" else None
    scales = [canonical[levels[INPUT_NODE]]]
    steps: list[LinearStep | PowerStep] = []
    for number, node in enumerate(network.nodes, start=1):
        last = number == len(network.nodes)
        if isinstance(node, Power):
            step: LinearStep | PowerStep = _power_step(node, levels, scales, canonical, layouts, number, parameters)
            layouts[number] = step.layout
        else:
            step = _linear_step(node, number, levels, scales, canonical, layouts, choices, written, last=last)
        scales.append(step.scale)
        steps.append(step)
    features = written.sources if written is not None else np.arange(math.prod(network.input_shape))
    return Program(parameters, choices.samples, levels[INPUT_NODE], scales[INPUT_NODE], first, features, tuple(steps))


def _power_step(
    node: Power,
    levels: Sequence[int],
    scales: Sequence[float],
    canonical: Sequence[float],
    layouts: Sequence[Layout | None],
    number: int,
    parameters: ParameterSet,
) -> PowerStep:
    layout = layouts[node.source]
    if layout is None:
        raise LayoutMisfit("a polynomial of something without a layout")
    start = levels[number] + power_levels(node.coefficients)
    scale = scales[node.source] ** 2 / parameters.primes[start] if node.coefficients == SQUARE else canonical[levels[number]]
    return PowerStep(node.name, node.source, node.coefficients, start, scales[node.source], levels[number], scale, layout)


def _linear_step(
    node: Affine,
    number: int,
    levels: Sequence[int],
    scales: Sequence[float],
    canonical: Sequence[float],
    layouts: Sequence[Layout | None],
    choices: Choices,
    written: Windows | None,
    *,
    last: bool,
) -> LinearStep:
    outgoing = layouts[number]
    if outgoing is None:
        raise LayoutMisfit("an affine node without a layout")
    level = levels[number] if last else levels[number] + 1
    scale = choices.answer_scale if last else canonical[levels[number]]
    product_scale = scale if last else scale * choices.parameters.primes[level]
    terms: list[Term] = []
    for (source, matrix), split in zip(node.terms, choices.splits[number], strict=True):
        incoming = layouts[source]
        if incoming is None:
            raise LayoutMisfit("a product with something without a layout")
        coordinates = matrix.tocoo()
        columns = written.columns if written is not None and source == INPUT_NODE else coordinates.col.astype(np.int64)
        found = diagonals(coordinates.row.astype(np.int64), columns, incoming, outgoing)
        if last:
            found = replace(found, folds=())
        terms.append(Term(source, level, scales[source], product_scale / scales[source], found, grid(found.used, split), 1.0))
    if not last:
        return LinearStep(node.name, tuple(terms), levels[number], scale, choices.rescales[number], outgoing, 1.0)
    whole = _repeats_after(terms)
    shared = tuple(replace(term, share=term.diagonals.working / whole) for term in terms)
    return LinearStep(node.name, shared, levels[number], scale, Rescale.NOTHING, outgoing, outgoing.period / whole)


def _repeats_after(terms: Sequence[Term]) -> int:
    return max(term.diagonals.working for term in terms)
