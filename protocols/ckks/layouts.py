"""Where the numbers of a row stand in the slots of a ciphertext, and which diagonals a matrix has between two layouts.

A layout is an order of numbers, each repeated in `stretch` slots in a row, the whole repeated every `period` slots. Rotating by
d * stretch moves d numbers on in every slot alike, and slots that hold the same number meet different ones of the result: a
stretched input serves as many diagonals at once as it has copies, without a break anywhere. The input's layout is free, since
whoever asks writes it; a result's layout is made by the fold that ends a linear layer (Halevi and Shoup, CRYPTO 2014, for
diagonals and baby-step giant-step; Juvekar et al., USENIX Security 2018, for diagonals across replicas).

With `samples` > 1 every slot here stands for that many slots in a row, one for each sample, and all rotations are multiplied:
samples never meet.

All of it is public and follows from shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protocols.ckks.linear_operators import Sparse
from protocols.model.layers import Shape

Ints = NDArray[np.int64]
NOTHING = -1


class LayoutMisfit(ValueError):
    """A layout that the slots do not hold, or two that a product cannot go between."""


@dataclass(frozen=True, eq=False)
class Layout:
    """See the module.

    Attributes:
        kind: `flat`, `padded`, `channels-last` or `windows`; how the order came about.
        order: the number at every place, `NOTHING` for a place that holds zero.
        stretch: slots per place.
        period: slots after which everything repeats, a power of two, at least `len(order) * stretch`.
    """

    kind: str
    order: Ints
    stretch: int
    period: int

    def __post_init__(self) -> None:
        if self.period & (self.period - 1) or self.stretch < 1 or len(self.order) * self.stretch > self.period:
            raise LayoutMisfit(f"{len(self.order)} places of {self.stretch} slots do not fit into {self.period}")

    @cached_property
    def places(self) -> Ints:
        """The place of every number."""
        found = np.full(int(self.order.max()) + 1, NOTHING, np.int64)
        held = np.flatnonzero(self.order != NOTHING)
        found[self.order[held]] = held
        return found

    @cached_property
    def one_period(self) -> Ints:
        """The number in each slot of a period, `NOTHING` for none."""
        found = np.full(self.period, NOTHING, np.int64)
        found[: len(self.order) * self.stretch] = np.repeat(self.order, self.stretch)
        return found

    def is_equal(self, other: Layout) -> bool:
        """Says whether both put the same numbers into the same slots."""
        return np.array_equal(self.one_period, other.one_period)


@dataclass(frozen=True, eq=False)
class Diagonals:
    """A matrix as products with rotated inputs: entry e adds value[e] in slot `slots[e]` of diagonal `numbers[e]`.

    Attributes:
        unit: the slots by which one diagonal is further than the one before.
        working: the plaintexts of diagonals repeat after so many slots.
        numbers: diagonal of each entry, `(entries,)`.
        slots: slot of each entry within `working`.
        entries: which entry of the matrix it is, in the order of its coordinates.
        folds: rotations whose sum ends the product, in order.
    """

    unit: int
    working: int
    numbers: Ints
    slots: Ints
    entries: Ints
    folds: tuple[int, ...]

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The diagonals that there are, ascending."""
        return tuple(int(number) for number in np.unique(self.numbers))


def fold_steps(incoming: Layout, outgoing: Layout) -> tuple[int, ...]:
    """Returns the rotations that sum up what one period of the input holds for every slot of the result's period."""
    return tuple(outgoing.period << power for power in reversed(range((incoming.period // outgoing.period).bit_length() - 1)))


def diagonals(rows: Ints, columns: Ints, incoming: Layout, outgoing: Layout) -> Diagonals:
    """Returns the diagonals of a matrix with entries at these coordinates, from one layout to another.

    Raises:
        LayoutMisfit: the result has a longer period than the input, which does not fill its own.
    """
    copies = np.arange(outgoing.stretch)
    out_slots = (outgoing.places[rows][:, None] * outgoing.stretch + copies).ravel()
    in_places = np.repeat(incoming.places[columns], outgoing.stretch)
    entries = np.repeat(np.arange(len(rows)), outgoing.stretch)
    numbers, slots = _placed(out_slots, in_places, incoming, outgoing)
    working = max(incoming.period, outgoing.period)
    return Diagonals(incoming.stretch, working, numbers, slots, entries, fold_steps(incoming, outgoing))


def used_diagonals(rows: Ints, columns: Ints, incoming: Layout, outgoing: Layout) -> tuple[int, ...]:
    """Returns which diagonals there are, without their entries; raises as `diagonals`."""
    if len(rows) == (incoming.order != NOTHING).sum() * (outgoing.order != NOTHING).sum() and len(incoming.order) > 1:
        # A full matrix has all there can be, up to what padding saves, which is not worth counting.
        _check(incoming, outgoing)
        is_longer = outgoing.period > incoming.period
        return tuple(range(len(incoming.order) if is_longer else -(-outgoing.period // incoming.stretch)))
    return diagonals(rows, columns, incoming, outgoing).used


def _check(incoming: Layout, outgoing: Layout) -> None:
    if outgoing.period > incoming.period and len(incoming.order) * incoming.stretch != incoming.period:
        raise LayoutMisfit("a result of a longer period than the input's needs an input that fills its period")


def _placed(out_slots: Ints, in_places: Ints, incoming: Layout, outgoing: Layout) -> tuple[Ints, Ints]:
    """The diagonal and the slot of every pair of a result's slot and an input's place."""
    _check(incoming, outgoing)
    stretch = incoming.stretch
    if outgoing.period > incoming.period:
        return (in_places - out_slots // stretch) % len(incoming.order), out_slots
    # The slot t of the product must be the result's modulo its period, and t + number * stretch one of the place's: the least
    # number for which that is so leaves one slot.
    distance = (out_slots - in_places * stretch) % outgoing.period
    numbers = np.where(distance < stretch, 0, -(-(outgoing.period - distance) // stretch))
    within = (distance + numbers * stretch) % outgoing.period
    return numbers, (in_places * stretch + within - numbers * stretch) % incoming.period


def power_of_two(count: int) -> int:
    """Returns the least power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def orders(shape: Shape) -> dict[str, Ints]:
    """Returns the orders in which a row of some shape may stand, by kind; each has a power of two of places."""
    size = math.prod(shape)
    found = {"flat": _filled(np.arange(size))}
    if len(shape) > 1:
        whole = np.arange(size).reshape(shape)
        spatial = power_of_two(math.prod(shape[1:]))
        padded = np.full((power_of_two(shape[0]), spatial), NOTHING, np.int64)
        padded[: shape[0], : math.prod(shape[1:])] = whole.reshape(shape[0], -1)
        found["padded"] = padded.ravel()
        found["channels-last"] = np.ascontiguousarray(padded.T).ravel()
    return found


def _filled(order: Ints) -> Ints:
    found = np.full(power_of_two(len(order)), NOTHING, np.int64)
    found[: len(order)] = order
    return found


@dataclass(frozen=True, eq=False)
class Windows:
    """The first layer's windows written out by whoever asks: for every place of the result what its channels look at.

    Attributes:
        sources: the feature that each number of the windows is.
        columns: for every entry of the map, the number of the windows that it multiplies.
        layout: of these numbers: tap after tap, the places of the result within.
    """

    sources: Ints
    columns: Ints
    layout: Layout


def windows(matrix: Sparse, shape: Shape, slots: int) -> Windows | None:
    """Returns the windows of a map with results of shape (channels, *places); None where they do not fit or save nothing.

    Args:
        matrix: `(outputs, features)`, not zero where the architecture has a weight, in the order of its coordinates.
        shape: of the result.
        slots: of a ciphertext.
    """
    places = math.prod(shape[1:])
    if len(shape) < 2 or places < 2:
        return None
    coordinates = matrix.tocoo()
    rows, columns = coordinates.row.astype(np.int64), coordinates.col.astype(np.int64)
    place = rows % places
    # Distinct (place, feature) pairs, each with its number among the features of its place.
    pairs, which = np.unique(place * matrix.shape[1] + columns, return_inverse=True)
    pair_place = pairs // matrix.shape[1]
    tap = np.arange(len(pairs)) - np.searchsorted(pair_place, np.arange(places))[pair_place]
    padded = power_of_two(places)
    taps = int(tap.max()) + 1
    if taps * padded > slots:
        return None
    order = np.full(taps * padded, NOTHING, np.int64)
    order[tap * padded + pair_place] = np.arange(len(pairs))
    layout = Layout("windows", order, 1, power_of_two(len(order)))
    return Windows(pairs % matrix.shape[1], which.astype(np.int64), layout)
