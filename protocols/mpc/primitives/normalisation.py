"""Writes a shared number as mantissa times a power of four, both shared (docs/protocols/normalisation.md).

Where the number lies among powers of two follows from sign tests of one opened number; a wide range takes two stages, first
to within eight octaves, then to within two. Functions with a simple rule for powers (reciprocal, roots, logarithm) are then a
series on [1/4, 1) and a factor or a summand that is constant between the thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.multiplication import multiply, truncate_and_multiply
from protocols.mpc.primitives.series import WAVE_BITS, fourier_series
from protocols.mpc.primitives.staircase import Staircase, staircase
from protocols.mpc.primitives.truncation import truncate
from protocols.mpc.waves import Series
from protocols.ring import RingArray

MANTISSA_BITS = 62  # a mantissa lies in [2^60, 2^62) in the ring, which stands for [1/4, 1)
SERIES_PERIOD_BITS = 63  # the series on [1/4, 1) repeat every 2
WEIGHT_BITS = 27
_TOTAL_BITS = WAVE_BITS + WEIGHT_BITS  # of a series; its values are below 4, so below 2^60 in the ring
_COARSE = 8  # octaves between the thresholds of the first of two stages
_FINE = 2
_MAX_ONE_STAGE = 12  # octaves


@dataclass(frozen=True)
class Span:
    """The ring numbers that are normalised: 2^low <= |x| < 2^high; public.

    Below 2^low a number counts as 2^low, from 2^high on as the largest below.

    Attributes:
        low: 0 to 61.
        high: more than low, at most 62.
        both_signs: whether negative numbers keep their sign; otherwise they count as 2^low.
    """

    low: int
    high: int
    both_signs: bool


@dataclass(frozen=True)
class Segment:
    """A piece of the line in one stage; public.

    Attributes:
        start: its least ring number; the first piece has no use for it.
        factor: what the number is multiplied with, and
        offset: what is added.
        levels: how many powers of four it lies below the top of the stage's range.
        sign: of its numbers.
        is_below: whether its numbers count as 2^low.
    """

    start: int
    factor: int
    offset: int
    levels: int
    sign: int
    is_below: bool


@dataclass(frozen=True)
class Stage:
    """The tests of one stage and the pieces they tell apart."""

    steps: Staircase
    segments: tuple[Segment, ...]

    @property
    def top(self) -> int:
        """The largest number of levels; public."""
        return max(segment.levels for segment in self.segments)


@dataclass(frozen=True)
class Normal:
    """This party's share of |x| = mantissa * 2^(high - 62) / 4^levels, all as ring numbers; secret.

    Attributes:
        mantissa: (count,), in [2^60, 2^62).
        stages: what found it.
    """

    mantissa: RingArray
    stages: tuple[Stage, ...]

    def levels(self) -> RingArray:
        """Returns this party's share of the number of levels, an integer; local."""
        shares = [stage.steps.piecewise([segment.levels for segment in stage.segments]) for stage in self.stages]
        total: RingArray = sum(shares[1:], shares[0])
        return total

    def rising_power(self, engine: Engine, base: int) -> Steps[RingArray]:
        """Returns this party's share of sign(x) * base^levels; one round if there are two stages, otherwise none."""
        factors = [
            stage.steps.piecewise([segment.sign * base**segment.levels for segment in stage.segments]) for stage in self.stages
        ]
        return (yield from _product(engine, factors))

    def falling_power(self, engine: Engine, base: int) -> Steps[RingArray]:
        """Returns the share of base^(top - levels), 0 where x counts as 2^low; `top` is the sum of the stages'. Rounds alike."""
        factors = [
            stage.steps.piecewise([0 if segment.is_below else base ** (stage.top - segment.levels) for segment in stage.segments])
            for stage in self.stages
        ]
        return (yield from _product(engine, factors))


def normalise(engine: Engine, share: RingArray, span: Span) -> Steps[Normal]:
    """Finds mantissa and exponent, exactly.

    Four rounds for up to 12 octaves, otherwise eight; each stage costs what `staircase` does. For 40 octaves and both signs that
    is 13 and 3 thresholds, for 62 octaves and one sign 8 and 3.

    Args:
        engine: this party's engine.
        share: (count,) int64, secret, in [-2^62, 2^62).
        span: what is normalised.

    Learns: nobody anything; everything opened is uniform.
    """
    if span.high - span.low <= _MAX_ONE_STAGE:
        only = yield from _stage(engine, share, first_segments(span, _FINE))
        return Normal(_apply(engine, only), (only,))
    coarse = yield from _stage(engine, share, first_segments(span, _COARSE))
    fine = yield from _stage(engine, _apply(engine, coarse), second_segments())
    return Normal(_apply(engine, fine), (coarse, fine))


def mantissa_series(engine: Engine, normal: Normal, series: Series, *, weight_bits: int) -> Steps[RingArray]:
    """Returns this party's share of a series of the mantissa at WAVE_BITS + weight_bits fractional bits; one round."""
    return (yield from fourier_series(engine, normal.mantissa, series, period_bits=SERIES_PERIOD_BITS, weight_bits=weight_bits))


def scaled_series(
    engine: Engine, normal: Normal, series: Series, power: Steps[RingArray], *, bits: int, shift: int
) -> Steps[RingArray]:
    """Returns this party's share of power * (series of the mantissa, cut to `bits` fractional bits) / 2^shift.

    Three rounds.
    """
    values, factor = yield from together(mantissa_series(engine, normal, series, weight_bits=WEIGHT_BITS), power)
    product = yield from truncate_and_multiply(engine, values, _TOTAL_BITS - bits, factor)
    return (yield from truncate(engine, product, shift))


def first_segments(span: Span, octaves: int) -> tuple[Segment, ...]:
    """The pieces of a first stage whose thresholds lie `octaves` apart; ascending."""
    count = -(-(span.high - span.low) // octaves)
    lowest_top = span.high - octaves * (count - 1)
    levels = octaves // 2 * (count - 1)
    below = Segment(0, 0, 1 << (span.low + MANTISSA_BITS - lowest_top), levels, 1, True)
    pieces = [below]
    for index in range(count):
        top = lowest_top + octaves * index
        start = 1 << max(span.low, top - octaves)
        pieces.append(Segment(start, 1 << (MANTISSA_BITS - top), 0, levels - octaves // 2 * index, 1, False))
    if span.high < MANTISSA_BITS:
        pieces.append(Segment(1 << span.high, 0, (1 << MANTISSA_BITS) - 1, 0, 1, False))
    if not span.both_signs:
        return tuple(pieces)
    # The mirror image of [a, b) is (-b, -a], which starts at -b + 1; the outermost piece has no end.
    # With low = 0 nothing lies between 0 and -1.
    ends = [piece.start for piece in pieces[1:]]
    mirrored = [
        replace(piece, start=-end + 1, factor=-piece.factor, sign=-1)
        for piece, end in zip(pieces, [*ends, 1 << MANTISSA_BITS], strict=True)
    ]
    return (*reversed(mirrored if span.low else mirrored[1:]), *pieces)


def second_segments() -> tuple[Segment, ...]:
    """The pieces of a second stage, which brings [2^54, 2^62) to the mantissa's range."""
    count = _COARSE // _FINE
    lowest = MANTISSA_BITS - _COARSE
    return tuple(
        Segment(1 << (lowest + _FINE * index), 1 << (_FINE * (count - 1 - index)), 0, count - 1 - index, 1, False)
        for index in range(count)
    )


def _stage(engine: Engine, share: RingArray, segments: tuple[Segment, ...]) -> Steps[Stage]:
    steps = yield from staircase(engine, share, [segment.start for segment in segments[1:]])
    return Stage(steps, segments)


def _apply(engine: Engine, stage: Stage) -> RingArray:
    scaled = stage.steps.piecewise_linear([segment.factor for segment in stage.segments])
    return scaled + stage.steps.piecewise([segment.offset for segment in stage.segments])


def _product(engine: Engine, factors: list[RingArray]) -> Steps[RingArray]:
    if len(factors) == 1:
        return factors[0]
    return (yield from multiply(engine, *factors))
