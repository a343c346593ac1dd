"""Chooses layouts and splits: the least cost by the reference figures, found node by node.

A result may be laid out longer than it is, with copies: that costs diagonals where it is made and saves as many where it is
taken, at a lower level. Each node's layout is chosen while the others stand, from several starts, until nothing changes. Then
each step's way is chosen, which costs time or precision: with rotations of its input or of sums alone, rescaled early or late.
All of it follows from shapes, so that a plan tells nothing about weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from protocols.ckks.costs import PrimitiveCosts, reference_costs
from protocols.ckks.layouts import Ints, Layout, LayoutMisfit, fold_steps, orders, power_of_two, used_diagonals
from protocols.ckks.network import Affine, Network
from protocols.ckks.parameters import ParameterSet
from protocols.ckks.program import INPUT_NODE, affine_scales, first_windows, make_layout, node_levels
from protocols.ckks.schedule import Rescale, best_split, count_grid, count_roundings

MAX_DIAGONALS = 4096  # of one matrix
_MOST_ENTRIES = 1 << 21  # of a matrix times its copies, looked at for one candidate
_SWEEPS = 3
_WORTH_OF_A_BIT = 0.3  # of the time, for half the error of rotations and rescaling


@dataclass(frozen=True, eq=False)
class Arrangement:
    """What was found.

    Attributes:
        layouts: of every node by number; None for a polynomial, which keeps its argument's.
        splits: per affine node by number.
        rescales: likewise.
        seconds: of all linear steps, each done in the cheapest way, by the reference figures.
    """

    layouts: tuple[Layout | None, ...]
    splits: dict[int, tuple[int, ...]]
    rescales: dict[int, Rescale]
    seconds: float


def arrange(network: Network, parameters: ParameterSet, samples: int) -> Arrangement:
    """Returns the cheapest arrangement that is found.

    Args:
        network: `support` of the model.
        parameters: the set.
        samples: how many stand beside each other.

    Raises:
        LayoutMisfit: the slots do not hold the model's widest layer.
    """
    search = _Search(network, parameters, parameters.slots // samples)
    found = [search.descend(kind) for kind in search.starts()]
    possible = [each for each in found if each is not None]
    if not possible:
        raise LayoutMisfit("no layout of the model was found")
    return min(possible, key=lambda each: each.seconds)


@dataclass(frozen=True)
class _Way:
    """One way to do an affine node, with its cost and the variance of the roundings that its result holds."""

    rescale: Rescale
    splits: tuple[int, ...]
    seconds: float
    noise: float


@dataclass(eq=False)
class _Search:
    network: Network
    parameters: ParameterSet
    slots: int
    costs: PrimitiveCosts = field(init=False)
    levels: list[int] = field(init=False)
    known: dict[tuple[int, int, tuple[str, int, int], tuple[str, int, int]], tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.costs = reference_costs(self.parameters)
        self.levels = node_levels(self.network)
        # Of a rounding at each level; the answer's scale is the product of those of the last input and its weights.
        base = math.sqrt(self.parameters.primes[0])
        self.noise = [scale**-2 for scale in affine_scales(self.parameters, base)]
        self.windows = first_windows(self.network, self.slots)
        self.coordinates: dict[tuple[int, int], tuple[Ints, Ints]] = {}
        for number, node in enumerate(self.network.nodes, start=1):
            if isinstance(node, Affine):
                for source, matrix in node.terms:
                    found = matrix.tocoo()
                    self.coordinates[number, source] = (found.row.astype(np.int64), found.col.astype(np.int64))
        self.options = {number: list(self._candidates(number)) for number in self._free()}
        for number, layouts in self.options.items():
            if not layouts:
                name = "the input" if number == INPUT_NODE else f"the result of {self.network.nodes[number - 1].name!r}"
                raise LayoutMisfit(f"{name} has more numbers than {self.slots} slots hold")

    def starts(self) -> list[str]:
        """Kinds with which to begin."""
        return sorted({layout.kind for layouts in self.options.values() for layout in layouts})

    def _free(self) -> list[int]:
        affine = [number for number, node in enumerate(self.network.nodes, start=1) if isinstance(node, Affine)]
        return [INPUT_NODE, *affine]

    def _candidates(self, number: int) -> Iterator[Layout]:
        is_input = number == INPUT_NODE
        shape = self.network.input_shape if is_input else self.network.nodes[number - 1].shape
        if is_input and self.windows is not None:
            yield self.windows.layout
        for kind, order in orders(shape).items():
            period = len(order)
            # Every slot of the result's period is a number that whoever asks gets: no copies there.
            while period <= (len(order) if number == len(self.network.nodes) else self.slots):
                true = int(np.flatnonzero(order >= 0)[-1]) + 1 if is_input else len(order)
                for stretch in sorted({period // true, period // power_of_two(true)}):
                    yield make_layout(kind, self.network, number, stretch=stretch, period=period)
                period *= 2

    def descend(self, kind: str) -> Arrangement | None:
        """Goes from one start to where no single change helps."""
        current = {}
        for number, layouts in self.options.items():
            wanted = kind if any(layout.kind == kind for layout in layouts) else "padded" if kind == "windows" else "flat"
            alike = [layout for layout in layouts if layout.kind == wanted] or layouts
            # The input is free to fill all slots; results start without copies.
            current[number] = alike[-1] if number == INPUT_NODE else alike[0]
        for _ in range(_SWEEPS):
            before = dict(current)
            for number in current:
                current[number] = min(self.options[number], key=lambda each, at=number: self._around(at, each, current))  # type: ignore[misc]
            if all(before[number] is current[number] for number in current):
                break
        total = sum(self._node(number, current)[1] for number in current if number != INPUT_NODE)
        if not math.isfinite(total):
            return None
        ways = self._weighed({number: self._ways(number, current) for number in current if number != INPUT_NODE})
        return Arrangement(
            layouts=tuple(current.get(number) for number in range(len(self.network.nodes) + 1)),
            splits={number: way.splits for number, way in ways.items()},
            rescales={number: way.rescale for number, way in ways.items()},
            seconds=total,
        )

    def _weighed(self, ways: dict[int, list[_Way]]) -> dict[int, _Way]:
        """The way of every step, of those that are given: half the error of all of them is worth a share of their time."""
        chosen = {number: those[0] for number, those in ways.items()}
        others = sum(
            self.noise[self.levels[number]]
            for number, node in enumerate(self.network.nodes, start=1)
            if not isinstance(node, Affine)  # polynomials round once at least
        )

        def price(found: dict[int, _Way]) -> float:
            bits = math.log2(sum(way.noise for way in found.values()) + others + self.noise[0]) / 2
            return math.log2(sum(way.seconds for way in found.values())) + bits * math.log2(1 + _WORTH_OF_A_BIT)

        for _ in range(_SWEEPS):
            for number, those in ways.items():
                chosen[number] = min(those, key=lambda way, at=number: price({**chosen, at: way}))  # type: ignore[misc]
        return chosen

    def _ways(self, number: int, current: dict[int, Layout]) -> list[_Way]:
        """How a step may be done in these layouts, from the most precise to the cheapest.

        Before its products an input has little scale, and the error of a rotation counts; after them it has all of it. So a step
        may do without babies, and may rescale after its folds.
        """
        if number == len(self.network.nodes):
            return [self._way(number, current, Rescale.NOTHING, split) for split in (1, None)]
        ways = ((Rescale.SUM, 1), (Rescale.SUM, None), (Rescale.GROUPS, None))
        return [self._way(number, current, rescale, split) for rescale, split in ways]

    def _way(self, number: int, current: dict[int, Layout], rescale: Rescale, wanted: int | None) -> _Way:
        """One way to do a step, with the cheapest split if none is wanted."""
        splits, total, noise = [], 0.0, 0.0
        level = self.levels[number] + (rescale is not Rescale.NOTHING)
        node = self.network.nodes[number - 1]
        for source, _ in node.terms if isinstance(node, Affine) else ():
            incoming, outgoing = current[self._origin(source)], current[number]
            used = self._used(number, source, incoming, outgoing)
            folds = 0 if rescale is Rescale.NOTHING else len(fold_steps(incoming, outgoing))
            split = wanted or best_split(used, self.costs, level=level, folds=folds, rescale=rescale)[0]
            splits.append(split)
            total += self.costs.of(count_grid(used, split, level, folds, rescale))
            before, after = count_roundings(used, split, folds, rescale)
            noise += before * self.noise[level] + after * self.noise[self.levels[number]]
        return _Way(rescale, tuple(splits), total, noise)

    def _around(self, number: int, layout: Layout, current: dict[int, Layout]) -> float:
        """The cost of a node and of all that take it, if it were laid out so."""
        tried = {**current, number: layout}
        takers = {taker for taker, source in self.coordinates if self._origin(source) == number} | (
            {number} if number != INPUT_NODE else set()
        )
        return sum(self._node(taker, tried)[1] for taker in takers)

    def _origin(self, number: int) -> int:
        """The node whose layout a node has."""
        while number != INPUT_NODE and not isinstance(node := self.network.nodes[number - 1], Affine):
            number = node.source
        return number

    def _node(self, number: int, current: dict[int, Layout]) -> tuple[tuple[int, ...], float]:
        node = self.network.nodes[number - 1]
        if not isinstance(node, Affine):
            return (), 0.0
        found = [self._term(number, source, current[self._origin(source)], current[number]) for source, _ in node.terms]
        return tuple(split for split, _ in found), sum(seconds for _, seconds in found)

    def _term(self, number: int, source: int, incoming: Layout, outgoing: Layout) -> tuple[int, float]:
        key = (number, source, _key(incoming), _key(outgoing))
        if key not in self.known:
            self.known[key] = self._priced(number, source, incoming, outgoing)
        return self.known[key]

    def _priced(self, number: int, source: int, incoming: Layout, outgoing: Layout) -> tuple[int, float]:
        if len(self.coordinates[number, source][0]) * outgoing.stretch > _MOST_ENTRIES and outgoing.stretch > 1:
            return 1, math.inf
        try:
            used = self._used(number, source, incoming, outgoing)
        except LayoutMisfit:
            return 1, math.inf
        if len(used) > MAX_DIAGONALS:
            return 1, math.inf
        last = number == len(self.network.nodes)
        level = self.levels[number] + (0 if last else 1)
        # Whoever opens the answer makes the last sums.
        folds = 0 if last else len(fold_steps(incoming, outgoing))
        rescale = Rescale.NOTHING if last else Rescale.GROUPS
        return best_split(used, self.costs, level=level, folds=folds, rescale=rescale)

    def _used(self, number: int, source: int, incoming: Layout, outgoing: Layout) -> tuple[int, ...]:
        rows, columns = self.coordinates[number, source]
        if incoming.kind == "windows" and self.windows is not None:
            columns = self.windows.columns
        return used_diagonals(rows, columns, incoming, outgoing)


def _key(layout: Layout) -> tuple[str, int, int]:
    return layout.kind, layout.stretch, layout.period
