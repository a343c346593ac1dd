"""Shortens rows before they are shared, so that one row's gradient has a bound (docs/protocols/shared-gradients.md).

The bound is of the integers that are shared, so that no rounding comes after it: numbers are cut towards zero at 16 fractional
bits, and rows that are longer still are scaled down and cut again. Each owner does this to its own rows. Where owners hold
different people, one that did not would expose its own rows and nobody else's; where they hold columns of the same people, the
rows are everybody's, and all rely on each to do it.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS, encode
from protocols.job import DatasetRef, Job, Partition
from protocols.private_training import Mechanism
from protocols.ring import RingArray

# Two roundings of 2^-53 make a scale and a third one its product; a root, a quotient and a conversion are as exact.
_SAFELY_BELOW_ONE = 1.0 - 2.0**-48
_BLOCK = 1 << 20  # elements at once, so that what is computed in between takes no memory of the size of the rows


def bounds_rows(job: Job) -> bool:
    """Whether a job is a private training on shares, to which owners bring rows of bounded length."""
    terms = None if job.training is None else job.training.privacy
    return terms is not None and terms.mechanism is Mechanism.SHARED_GRADIENTS


def squared_limit(job: Job, dataset: DatasetRef) -> int | None:
    """Returns what the squares of the integers of one row of a data set may add up to; None unless the job bounds rows.

    That is (bound * 2^16)^2 for whole rows. Of a row in columns every owner has a part, and may fill as much of it as it has
    columns, so that all parts together keep the bound. Rounded down; public.
    """
    terms = None if job.training is None else job.training.privacy
    if terms is None or not bounds_rows(job):
        return None
    whole = (Fraction(Decimal(terms.norm_bound)) * 2**VALUE_BITS) ** 2
    if job.partition is Partition.COLUMNS:
        whole = whole * dataset.num_features / job.model.input_features
    return int(whole)


def shorten_rows(features: NDArray[np.float64], *, squared: int, limit: float) -> RingArray:
    """Returns the integers of rows whose squares add up to a limit at most; each row keeps its direction but for the cut.

    Args:
        features: (rows, features) float64; secret.
        squared: see `squared_limit`; public.
        limit: largest absolute value that is accepted of a number.

    Returns:
        (rows, features) int64 at 16 fractional bits, of the same signs. Each number is what the row scaled to its limit has there
        (itself, for a row that is short enough), or nearer to zero by less than three units.

    Raises:
        ConfideError: INVALID_DATA (the rows' owner) naming the positions, never the values, of NaN, infinity and numbers beyond
            the limit; INTERNAL (ours) if a row is too long nevertheless.
    """
    encode(features, scale_bits=VALUE_BITS, limit=limit)  # refuses what is no number within the limit
    shortened = np.empty(features.shape, np.int64)
    step = max(_BLOCK // max(features.shape[1], 1), 1)
    for start in range(0, len(features), step):
        some = slice(start, start + step)
        shortened[some] = _shorten(np.trunc(features[some] * 2.0**VALUE_BITS).astype(np.int64), squared)
    return shortened


def _shorten(rows: RingArray, squared: int) -> RingArray:
    lengths = (rows * rows).sum(axis=1)
    # All factors are at most 1, so no number grows, and cutting makes none longer; short rows stay what they are. Long or short,
    # a row takes the same time.
    factors = np.sqrt(squared / np.maximum(lengths, 1).astype(np.float64)) * _SAFELY_BELOW_ONE
    factors = np.where(lengths > squared, factors, 1.0)
    rows = np.trunc(rows * factors[:, None]).astype(np.int64)
    lengths = (rows * rows).sum(axis=1)
    if (lengths > squared).any():
        raise ConfideError(ErrorCode.INTERNAL, "a row is longer than its bound after it was shortened")
    return rows
