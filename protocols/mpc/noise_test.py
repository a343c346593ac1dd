"""The test of noise by its opened spares: is each owner's share of it there, fresh in every step, and unlike anybody else's?

Of every owner the spares are opened alone: `steps` rows of `spares` integers, which ought to be independent discrete Gaussians of
one known deviation. Divided by it, they are standard normal up to the grid, and four sums of squares have known distributions:

| figure | of | finds |
|---|---|---|
| variance | all values | noise that is missing, or of another deviation |
| means | the means of the coordinates over the steps | the same share again in many steps |
| pairs, twice | sums against differences of rows next to each other, from the first row and from the second | correlated rows |

Beside that no row may occur twice, up to its sign, among those of all steps, of all owners and of their opened draws: that finds
every row that is used again. And of an owner no more values may be equal, up to their sign, than chance makes: that finds few
numbers that are used in many coordinates. The figures are tested two-sided, and share `ALARM`, the chance that a sound job is
refused. The number of spares is chosen so that an owner that draws at 85 % of its deviation is found with a chance of `POWER`; a
share that is missing is always found. What is not found: an owner that leaves out the noise of few coordinates, or makes it a
little smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainc, gammaincinv  # type: ignore[import-untyped]

from protocols.ring import RingArray

ALARM = 2.0**-20
POWER = 0.999
MIN_SPARES = 16
MIN_DEVIATION = 16  # of which rows of 16 spares hardly ever agree, and the grid does not show
_FOUND_DEVIATION = 0.85
_MORE_REPEATS = 24
_FEW_VALUES = 1_536  # of which chance makes 18 repeats of 16 bits
_NAMES = ("variance", "variance_p", "means_p", "pairs_p")
MILLION = 1_000_000
Figures = NDArray[np.float64]


class Finding(IntEnum):
    """What is wrong with an owner's noise; the first that is found."""

    NOTHING = 0
    OTHER_DRAW = 1
    VARIANCE = 2
    REPEATED = 3
    CORRELATED = 4

    @property
    def in_words(self) -> str:
        """The finding for people."""
        return _WORDS[self]


_WORDS = {
    Finding.NOTHING: "nothing is wrong with it",
    Finding.OTHER_DRAW: "the draw that was opened is not the one that it committed to",
    Finding.VARIANCE: "it has not the variance that was agreed",
    Finding.REPEATED: "noise occurs twice",
    Finding.CORRELATED: "the noise of different steps is correlated",
}


@dataclass(frozen=True)
class OwnerFigures:
    """What the spares of one owner showed, in millionths; public to the participants.

    Attributes:
        owner: party id.
        variance: of the spares, over the one that was agreed.
        variance_p: how probable a variance so far away is for sound noise.
        means_p: the same for the means of coordinates.
        pairs_p: the same for rows next to each other; the smaller of two.
        finding: what is wrong.
    """

    owner: str
    variance: int
    variance_p: int
    means_p: int
    pairs_p: int
    finding: Finding

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """The four figures in order."""
        return self.variance, self.variance_p, self.means_p, self.pairs_p

    @staticmethod
    def of(owner: str, numbers: Sequence[int], finding: Finding) -> OwnerFigures:
        """Returns the figures of an owner from `numbers`."""
        variance, variance_p, means_p, pairs_p = numbers
        return OwnerFigures(owner, variance, variance_p, means_p, pairs_p, finding)


@dataclass(frozen=True)
class NoiseTest:
    """The result of the test at one party.

    Attributes:
        steps: of the training.
        spares: of a step and an owner.
        deviation: that was agreed, in units of the grid.
        owners: the figures of each, in order.
    """

    steps: int
    spares: int
    deviation: int
    owners: tuple[OwnerFigures, ...]

    @property
    def has_passed(self) -> bool:
        """Whether nothing is wrong with anybody's noise."""
        return all(figures.finding is Finding.NOTHING for figures in self.owners)

    def to_document(self) -> dict[str, Any]:
        """Returns the result as a document."""
        owners = [{**vars(figures), "finding": figures.finding.name.lower()} for figures in self.owners]
        return {"steps": self.steps, "spares": self.spares, "deviation": self.deviation, "owners": owners}

    @staticmethod
    def from_document(document: Any) -> NoiseTest:
        """Reads what `to_document` gave.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        owners = tuple(
            OwnerFigures.of(str(entry["owner"]), [_whole(entry[name]) for name in _NAMES], Finding[entry["finding"].upper()])
            for entry in document["owners"]
        )
        return NoiseTest(_whole(document["steps"]), _whole(document["spares"]), _whole(document["deviation"]), owners)


@cache
def spares_for(steps: int, owners: int) -> int:
    """Returns how many coordinates of every step are opened of every owner; public.

    The least, and at least 16, with which an owner at 85 % of its deviation is found with a chance of `POWER`.

    Args:
        steps: of the training, 1 or more.
        owners: that draw.
    """
    few, many = 1, 1 << 20
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if _power(middle, owners) >= POWER else (middle + 1, many)
    return max(MIN_SPARES, -(-few // steps))


def examine(
    spares: RingArray, opened: Mapping[str, RingArray], *, owners: Sequence[str], deviation: int
) -> tuple[OwnerFigures, ...]:
    """Returns the figures of every owner.

    Args:
        spares: (owners, steps, spares) int64: opened, of the noise that is used.
        opened: by owner, (steps, spares) int64: the same places of the draw that was opened; of owners whose opening was sound.
        owners: whose spares they are, in order.
        deviation: that was agreed.

    Learns: whoever calls it; the spares are used for nothing else.
    """
    repeated = _repeated(spares, opened, owners) | _of_few_numbers(spares, owners, deviation)
    limit, found = _limit(len(owners)), []
    for owner, (variance, variance_p, means_p, pairs_p) in zip(owners, _figures(spares, deviation), strict=True):
        finding = _finding(variance_p, min(means_p, pairs_p), owner in repeated, limit=limit)
        numbers = [round(MILLION * number) for number in (min(variance, 1e9), variance_p, means_p, pairs_p)]
        found.append(OwnerFigures.of(owner, numbers, finding))
    return tuple(found)


def _finding(variance_p: float, others_p: float, is_repeated: bool, *, limit: float) -> Finding:
    if variance_p < limit:
        return Finding.VARIANCE
    if is_repeated:
        return Finding.REPEATED
    return Finding.CORRELATED if others_p < limit else Finding.NOTHING


def _limit(owners: int) -> float:
    return ALARM / (2 * len(_NAMES) * owners)  # the other half is left to rows that agree by chance


def _figures(spares: RingArray, deviation: int) -> Iterable[tuple[float, float, float, float]]:
    """Returns the figures of every owner, in the order of their names.

    What is added up over many values is an array; of the few sums lists are faster. Not the values are divided by the deviation,
    but their sums of squares by its square.

    Args:
        spares: (owners, steps, spares) int64.
        deviation: that was agreed.
    """
    owners, steps, width = spares.shape
    values, unit = spares.astype(np.float64), float(deviation**2)
    squares = np.vecdot(values, values)
    totals = [total / unit for total in np.add.reduce(squares, axis=1).tolist()]
    variances = [total / (steps * width) for total in totals]
    if steps == 1:  # which says nothing about steps
        ones = [1.0] * owners
        return zip(variances, _chi_square_p(totals, [width] * owners), ones, ones, strict=True)
    columns = np.add.reduce(values, axis=1)
    means = [mean / (steps * unit) for mean in np.vecdot(columns, columns).tolist()]
    both_p = _chi_square_p(totals + means, [steps * width] * owners + [width] * owners)
    return zip(variances, both_p[:owners], both_p[owners:], _pairs_p(values, squares), strict=True)


def _chi_square_p(sums: Sequence[float], freedoms: Sequence[int]) -> list[float]:
    below = gammainc([freedom / 2 for freedom in freedoms], [each / 2 for each in sums])
    return _two_sided(below.tolist())


def _pairs_p(values: Figures, squares: Figures) -> list[float]:
    """Returns how probable the sums of neighbouring rows, against their differences, are: their squares' share is Beta.

    The squares of x + y add up to |x|^2 + |y|^2 + 2 x y, and with those of x - y to twice |x|^2 + |y|^2.

    Args:
        values: (owners, steps, spares), of two steps or more.
        squares: (owners, steps) the sum of squares of each row.

    Returns:
        By owner the smaller of two: of pairs from the first row, and of pairs from the second.
    """
    owners, steps, width = values.shape
    products = np.vecdot(values[:, :-1], values[:, 1:])
    halves, shares = [], []
    for first in (0, 1):
        pairs = (steps - first) // 2
        both = np.add.reduce(squares[:, first : first + 2 * pairs], axis=1).tolist()
        of_pairs = np.add.reduce(products[:, first::2], axis=1).tolist()
        halves += [max(pairs, 1) * width / 2] * owners
        # Of nothing, or of zeros, there is nothing to compare; the variance says what is wrong.
        shares += [0.5 + product / total if total else 0.5 for product, total in zip(of_pairs, both, strict=True)]
    below = betainc(halves, halves, [min(max(share, 0.0), 1.0) for share in shares])
    probabilities = _two_sided(below.tolist())
    return [*map(min, probabilities[:owners], probabilities[owners:])]


def _two_sided(below: Sequence[float]) -> list[float]:
    # Both tails matter down to the limit, some 10^-9, far above the rounding of 1 - x.
    return [2 * min(each, 1 - each) for each in below]


def _repeated(spares: RingArray, opened: Mapping[str, RingArray], owners: Sequence[str]) -> set[str]:
    """Returns the owners of which a row occurs again, up to its sign: at them or others, among spares or in an opened draw."""
    firsts = np.abs(np.concatenate([spares[:, :, 0].reshape(-1), *[values[:, 0] for values in opened.values()]]))
    firsts.sort()
    if not np.count_nonzero(firsts[1:] == firsts[:-1]):
        return set()  # rows that are equal begin alike
    seen: dict[bytes, str] = {}
    found = set()
    for owner, values in (*zip(owners, spares, strict=True), *opened.items()):
        for row in _rows(values):
            if row in seen:
                found |= {owner, seen[row]}
            seen[row] = owner
    return found


def _of_few_numbers(spares: RingArray, owners: Sequence[str], deviation: int) -> set[str]:
    """Returns the owners of whose values more are equal to another one, up to the sign, than chance makes.

    No absolute value is more probable than 2 / (sqrt(2 pi) deviation), so the i-th of N values repeats one before it with at most
    (i - 1) times that. All repeats together are then below a Poisson number of mean M, N (N - 1) / 2 times that, and such a
    number exceeds 2 M + 24 with a chance below 1e-13 (Chernoff; the worst M is 16).

    Args:
        spares: (owners, steps, spares) int64.
        owners: in order.
        deviation: that was agreed.
    """
    values = np.abs(spares).reshape(len(owners), -1)
    count = values.shape[1]
    mean = count * (count - 1) / ((2 * np.pi) ** 0.5 * deviation)
    allowed = 2 * mean + _MORE_REPEATS
    # Values that are equal have equal last bits. Few bits are sorted sooner than many, and nearly always show that there are not
    # too many repeats; if they do not, more bits decide.
    for bits in (np.uint16, np.uint32) if count <= _FEW_VALUES else (np.uint32,):
        if max(_repeats(values.astype(bits))) <= allowed:
            return set()
    return {owner for owner, found in zip(owners, _repeats(values), strict=True) if found > allowed}


def _repeats(values: NDArray[np.integer[Any]]) -> list[np.intp]:
    """Returns how many values of each row are equal to another one before them; sorts them."""
    values.sort(axis=1, kind="stable" if values.itemsize == 2 else None)  # 16 bits by their digits, others by comparing
    return [np.count_nonzero(equal) for equal in values[:, 1:] == values[:, :-1]]


def _rows(values: RingArray) -> Sequence[bytes]:
    first = values[:, :1]
    return [row.tobytes() for row in np.ascontiguousarray(np.where(first < 0, -values, values))]


def _power(count: int, owners: int) -> float:
    """Returns the chance that `count` values at 85 % of their deviation fall below the limit of the variance."""
    limit = gammaincinv(count / 2, _limit(owners) / 2)
    return float(gammainc(count / 2, limit / _FOUND_DEVIATION**2))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("a whole number is expected")
    return value
