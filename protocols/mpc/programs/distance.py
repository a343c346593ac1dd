"""Whether a sample lies near the centre of the rows that a model takes, in shares (docs/protocols/outputs.md).

The distance is the root of the mean of a sample's squared features, in units of half a declared range: 0 is the middle of every
range, 1 its ends. A querier may share any number of the ring. So every feature is also compared with its range, exactly and
without a wrap; only where all of them are inside is the sum of squares what it says, and elsewhere a sample is far whatever the
sum has become.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np

from protocols.fixed_point import VALUE_BITS
from protocols.job_parts import Output
from protocols.mpc.engine import Engine, Steps, together
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.primitives.products import inner
from protocols.mpc.primitives.range import outside_counts
from protocols.mpc.values import SharedValue, ValueView
from protocols.ring import RingArray

_UNIT = 1 << VALUE_BITS  # of a feature at the end of its range; encoding rounds to it what is a rounding error beyond


def objections(engine: Engine, rows: SharedValue, output: Output) -> Steps[RingArray]:
    """Returns this party's share of a count for every sample, (rows, 1): 0 if it is near enough, else from 1 to 2 features + 1.

    Four rounds if the rows are open under their mask, else five; 16.5 bytes a feature and 12.25 a sample, and 8 a feature to
    open the rows. Corrections 72.125 bytes a feature and 60.125 a sample.

    Range: inside, the sum of squares is at most features 2^32, below 2^53 for the most features that a model takes, and the
    squared bound likewise, so their difference is exact. Outside, it is any number of the ring, and the counts alone are 1 or
    more.

    Args:
        engine: this party's engine.
        rows: (rows, features) at 16 fractional bits, secret, any numbers of the ring.
        output: with a largest distance; public.

    Learns: nobody anything; everything opened is uniform.
    """
    num_rows, num_features = rows.shape
    flat = rows.share.reshape(-1)
    ends = np.full(flat.size, _UNIT, np.int64)
    outside, far = yield from together(
        outside_counts(engine, flat, ends), _far(engine, rows, largest_square(output, num_features))
    )
    counts: RingArray = outside.reshape(num_rows, num_features).sum(axis=1, keepdims=True) + far
    return counts


def largest_square(output: Output, num_features: int) -> int:
    """Returns the largest sum of squared features at 32 fractional bits of a sample that is near enough, exactly; public."""
    return floor(Fraction(output.abstain_beyond) ** 2 * num_features * _UNIT**2)


def _far(engine: Engine, rows: SharedValue, most: int) -> Steps[RingArray]:
    """Returns the share of [sum of squares > most], (rows, 1)."""
    view = ValueView(rows)
    squares = yield from inner(engine, view, view, (1,))
    ones = engine.public(np.ones_like(squares))
    near: RingArray = yield from nonnegative(engine, most * ones - squares)
    far: RingArray = ones - near
    return far
