"""The querier's side: samples become shares, output shares become values. Needs no CrypTen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_LIMIT_BITS, VALUE_BITS, VALUE_LIMIT_BITS, decode, encode
from protocols.job_parts import MAX_CLASSES, Output, OutputKind
from protocols.loss_bounds import LOSSES
from protocols.mpc.inputs import ROW_LIMIT
from protocols.no_answer import no_answer
from protocols.prg import ByteSource
from protocols.ring import RingArray
from protocols.row_losses import mean_of_opened
from protocols.row_noise import COUNTED, GROUP_CELLS, SCORE_COLUMNS
from protocols.row_noise import RELIABILITY_BINS as RELIABILITY_BINS
from protocols.sharing import combine_additive, share_additive


def share_query(features: NDArray[np.float64], *, num_parties: int, source: ByteSource) -> list[RingArray]:
    """Shares the querier's samples among the computing parties.

    Args:
        features: (rows, features) float64 scaled to [-1, 1], secret.
        num_parties: how many computing parties.
        source: fresh randomness of the querier.

    Returns:
        One (rows, features) int64 array for each computing party, in their order. Each alone is uniform.

    Raises:
        ConfideError: INVALID_DATA (the querier's fault) naming positions of values outside the range.
    """
    return share_additive(encode(features, scale_bits=VALUE_BITS, limit=ROW_LIMIT), num_parties=num_parties, source=source)


def combine_output(
    shares: Sequence[RingArray], *, output: Output, scale_bits: int, num_rows: int | None = None
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Opens an output from the shares of all computing parties.

    Args:
        shares: one int64 array from each computing party, of one shape.
        output: what the output is, and its constraint.
        scale_bits: its fractional bits, as the plan says.
        num_rows: of the job, which moments and losses with noise are over.

    Returns:
        correct_count: (1,) int64; with a minimum cell c above 1, 0 stands for fewer than c correct rows, and the number of all
            rows for fewer than c wrong ones.
        confusion: (classes, classes) int64, true class by predicted class; -1 in cells that are withheld.
        reliability: (10, 3) float64: rows, sum of probabilities and right rows of each tenth; NaN in tenths that are withheld.
        group_confusion: (groups, 4) int64: true and false negatives, false and true positives; -1 in cells that are withheld.
        attack_counts: (thresholds, 2) int64: members, and others, that reach each threshold; -1 where withheld.
        score_histogram: (bins, 2): rows of class 0 and of class 1 in each range of the probability, always with noise.
            All of these but attack_counts with noise: float64, neither whole nor within their ranges; NaN where withheld.
        roc_auc, log_loss, squared_error: (1,) float64; NaN if a rate or a log loss is withheld. A loss with noise is not brought
            back to its range.
        centroids, group_means: (groups, features + 1) float64: means of scaled features, and last how many rows; NaN throughout a
            group that is withheld, and for the means of one without rows. With noise, sizes are not whole, and means are noisy
            sums over noisy sizes, brought back to [-1, 1]; of clusters, of all moves.
        moments: (features, 2) float64: mean and standard deviation of scaled features; a deviation is 0 where noise hides it.
        label: (rows,) int64, the index of the class; -1 for a sample without an answer.
        probability: (rows,) or (rows, classes) float64 within [0, 1]; score: of the same shape, float64; value: (rows,) float64;
            all as rounded, clipped and chosen as the constraint says; NaN throughout a sample without an answer.
        mean: (1,) or (classes,) float64: of probabilities within [0, 1], of values within [-1, 1]; with noise not brought back to
            that, so that means of many means stay unbiased.
        weights: (parameters,) float64.

    Raises:
        ConfideError: BAD_FRAME (a computing party's fault) if the shares do not fit together or give no such output, or one that
            the constraint does not let out.
    """
    kind = output.kind
    if len(shares) < 2 or len({share.shape for share in shares}) != 1:
        raise ConfideError(ErrorCode.BAD_FRAME, "the output shares do not fit together")
    values = decode(combine_additive(shares), scale_bits=scale_bits)
    if output.decimals is not None:
        if scale_bits != 0:
            raise ConfideError(ErrorCode.BAD_FRAME, "the shares of a rounded output have finer digits")
        values = values / 10.0**output.decimals  # of whole numbers: the float64 nearest to the decimal
    untold = _without_answer(values, output)
    told = values[~untold] if untold.any() else values
    if not _is_possible(told, output) or not _keeps_constraint(told, output):
        raise ConfideError(ErrorCode.BAD_FRAME, f"the shares do not combine to a {kind.value}")
    if output.has_noise and kind in COUNTED:
        return _noisy_counts(values, output)
    if kind is OutputKind.MOMENTS:
        return _moments(values, num_rows)
    if output.has_noise and kind in LOSSES:
        return _noisy_loss(values, output, num_rows)
    match kind:
        case OutputKind.CORRECT_COUNT | OutputKind.CONFUSION | OutputKind.GROUP_CONFUSION | OutputKind.LABEL:
            return values.astype(np.int64)
        case OutputKind.ATTACK_COUNTS:
            return values.astype(np.int64)
        case OutputKind.SCORE_HISTOGRAM:
            return values
        case OutputKind.PROBABILITY:
            values = np.clip(values, 0.0, 1.0)
            values[untold] = np.nan
            return values
        case OutputKind.ROC_AUC:
            return np.where(values == WITHHELD, np.nan, np.clip(values, 0.0, 1.0))
        case OutputKind.LOG_LOSS:
            return np.where(values == WITHHELD, np.nan, np.maximum(values, 0.0))
        case OutputKind.SQUARED_ERROR:
            return np.maximum(values, 0.0)
        case OutputKind.RELIABILITY:
            return np.where(values[:, :1] == WITHHELD, np.nan, np.maximum(values, 0.0))
        case OutputKind.CENTROIDS | OutputKind.GROUP_MEANS:
            if output.has_noise and kind is OutputKind.GROUP_MEANS:
                return _means_of_sums(values)
            told = np.where(values[:, -1:] == WITHHELD, np.nan, values)
            told[told[:, -1] == 0, :-1] = np.nan
            return told
        case OutputKind.SCORE | OutputKind.VALUE:
            values[untold] = np.nan
            return values
        case OutputKind.MEAN | OutputKind.WEIGHTS:
            return values


WITHHELD = -1.0
_ROUNDING = 2.0**-12  # the approximations may lead a probability or a rate this little outside its range
_CLIP_ROUNDING = 2.0**-40  # a decimal is no float64
_LARGEST = 2.0**VALUE_LIMIT_BITS  # declared: no output reaches it


def _without_answer(values: NDArray[np.float64], output: Output) -> NDArray[np.bool_]:
    """Returns which samples have no answer: its mark throughout, where the output may say so."""
    if values.ndim == 0 or not output.abstains:
        return np.zeros(len(values) if values.ndim else 1, np.bool_)
    untold: NDArray[np.bool_] = (values.reshape(len(values), -1) == no_answer(output)).all(axis=1)
    return untold


def _is_possible(values: NDArray[np.float64], output: Output) -> bool:
    if output.has_noise and output.kind in COUNTED:
        return _are_noisy_counts(values, output)
    if output.has_noise and output.kind in _IS_POSSIBLE_WITH_NOISE:
        return _IS_POSSIBLE_WITH_NOISE[output.kind](values)
    return _IS_POSSIBLE[output.kind](values)


def _means_of_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns groups' means and sizes of their noisy sums and sizes; all else is computed from what is opened."""
    sizes = np.where(values[:, -1:] == WITHHELD, np.nan, values[:, -1:])
    return np.concatenate([np.clip(values[:, :-1] / sizes, -1.0, 1.0), sizes], axis=1)


def _moments(sums: NDArray[np.float64], num_rows: int | None) -> NDArray[np.float64]:
    """Returns means and deviations of noisy sums of x and of x^2 - 1; all of it is computed from what is opened."""
    if not num_rows:
        raise ConfideError(ErrorCode.INTERNAL, "moments of an unknown number of rows")
    means = np.clip(sums[0] / num_rows, -1.0, 1.0)
    squares = np.clip(sums[1] / num_rows + 1.0, 0.0, 1.0)
    return np.stack([means, np.sqrt(np.maximum(squares - means**2, 0.0))], axis=1)


def _noisy_loss(sums: NDArray[np.float64], output: Output, num_rows: int | None) -> NDArray[np.float64]:
    """Returns the mean loss of a noisy sum in units of the most that a row counts; it follows from what is opened."""
    if not num_rows:
        raise ConfideError(ErrorCode.INTERNAL, "a loss of an unknown number of rows")
    return np.array([mean_of_opened(float(sums[0]), output, num_rows)])


def _are_noisy_groups(values: NDArray[np.float64]) -> bool:
    # A size that is told is no less than the minimum cell, which is 2 or more.
    if values.ndim != 2 or values.shape[1] < 2 or not bool((np.abs(values) < _LARGEST * _LARGEST).all()):
        return False
    held = values[:, -1] == WITHHELD
    return bool((held | (values[:, -1] > 0)).all()) and not values[held, :-1].any()


def _noisy_counts(values: NDArray[np.float64], output: Output) -> NDArray[np.float64]:
    """Returns noisy counts with NaN where they are withheld; without a minimum cell none are, and a -1 is a count."""
    if output.min_cell == 1:
        return values
    sizes = values[:, :1] if output.kind is OutputKind.RELIABILITY else values
    return np.where(sizes == WITHHELD, np.nan, values)


def _are_noisy_counts(values: NDArray[np.float64], output: Output) -> bool:
    shapes: dict[OutputKind, bool] = {
        OutputKind.CORRECT_COUNT: values.shape == (1,),
        OutputKind.CONFUSION: values.ndim == 2 and values.shape[0] == values.shape[1],
        OutputKind.RELIABILITY: values.shape == (RELIABILITY_BINS, 3),
        OutputKind.GROUP_CONFUSION: values.ndim == 2 and values.shape[1] == GROUP_CELLS,
        OutputKind.SCORE_HISTOGRAM: values.shape == (len(output.group_edges) + 1, SCORE_COLUMNS),
    }
    if not shapes[output.kind] or not bool((np.abs(values) < _LARGEST * _LARGEST).all()):
        return False
    if output.min_cell == 1:
        return True
    sizes = values[:, 0] if output.kind is OutputKind.RELIABILITY else values
    # All outputs of a job are withheld below the strictest of its minimum cells, which is this output's or more.
    if not bool(((sizes == WITHHELD) | (sizes >= output.min_cell)).all()):
        return False
    return output.kind is not OutputKind.RELIABILITY or not values[sizes == WITHHELD, 1:].any()


def _is_whole(values: NDArray[np.float64], *, least: float) -> bool:
    return bool(((values >= least) & (values == np.rint(values))).all())


def _is_rate(values: NDArray[np.float64]) -> bool:
    return bool(((values >= -_ROUNDING) & (values <= 1 + _ROUNDING) | (values == WITHHELD)).all())


def _keeps_constraint(values: NDArray[np.float64], output: Output) -> bool:
    if output.top_k and (values.ndim != 2 or bool((np.count_nonzero(values, axis=1) > output.top_k).any())):
        return False
    clip = float(output.clip)
    is_inside = (values >= clip - _CLIP_ROUNDING) & (values <= 1 - clip + _CLIP_ROUNDING)
    return clip == 0 or bool((is_inside | (values == 0) if output.top_k else is_inside).all())


def _are_groups(values: NDArray[np.float64]) -> bool:
    if values.ndim != 2 or values.shape[1] < 2 or not _is_whole(values[:, -1], least=WITHHELD):
        return False
    means, told = values[:, :-1], values[:, -1:] > 0
    # Of a group that is withheld or empty not even means are in the shares.
    return bool((np.abs(means) <= np.where(told, 1 + _ROUNDING, 0)).all())


def _are_attack_counts(values: NDArray[np.float64]) -> bool:
    if values.ndim != 2 or values.shape[1] != 2 or not _is_whole(values, least=WITHHELD):
        return False
    # A higher threshold is reached by no more rows.
    told = [side[side != WITHHELD] for side in values.T]
    return all(bool((np.diff(side) <= 0).all()) for side in told)


def _is_reliability(values: NDArray[np.float64]) -> bool:
    if values.shape != (RELIABILITY_BINS, 3) or not _is_whole(values[:, ::2], least=WITHHELD):
        return False
    rows, total, right = values.T
    held = rows == WITHHELD
    inside = (right >= 0) & (right <= rows) & (total >= -_ROUNDING * rows) & (total <= (1 + _ROUNDING) * rows)
    return bool(np.where(held, (total == WITHHELD) & (right == WITHHELD), inside).all())


def _is_noisy_loss(values: NDArray[np.float64]) -> bool:
    return values.shape == (1,) and bool(np.abs(values[0]) < _LARGEST * _LARGEST)


_IS_POSSIBLE: dict[OutputKind, Callable[[NDArray[np.float64]], bool]] = {
    OutputKind.CORRECT_COUNT: lambda v: v.shape == (1,) and _is_whole(v, least=0),
    OutputKind.CONFUSION: lambda v: v.ndim == 2 and v.shape[0] == v.shape[1] and _is_whole(v, least=WITHHELD),
    OutputKind.RELIABILITY: _is_reliability,
    OutputKind.GROUP_CONFUSION: lambda v: v.ndim == 2 and v.shape[1] == 4 and _is_whole(v, least=WITHHELD),
    OutputKind.SCORE_HISTOGRAM: lambda v: False,  # never without noise
    OutputKind.ATTACK_COUNTS: _are_attack_counts,
    OutputKind.ROC_AUC: lambda v: v.shape == (1,) and _is_rate(v),
    OutputKind.LOG_LOSS: lambda v: v.shape == (1,) and bool(-_ROUNDING <= v[0] < _LARGEST or v[0] == WITHHELD),
    OutputKind.SQUARED_ERROR: lambda v: v.shape == (1,) and bool(-_ROUNDING <= v[0] < _LARGEST),
    OutputKind.CENTROIDS: _are_groups,
    OutputKind.GROUP_MEANS: _are_groups,
    OutputKind.MOMENTS: lambda v: v.ndim == 2 and len(v) == 2 and bool((np.abs(v) < _LARGEST * _LARGEST).all()),
    OutputKind.LABEL: lambda v: v.ndim == 1 and _is_whole(v, least=0) and bool((v < MAX_CLASSES).all()),
    OutputKind.PROBABILITY: lambda v: v.ndim in (1, 2) and bool(((v >= -_ROUNDING) & (v <= 1 + _ROUNDING)).all()),
    OutputKind.SCORE: lambda v: v.ndim in (1, 2) and bool((np.abs(v) < _LARGEST).all()),
    OutputKind.VALUE: lambda v: v.ndim == 1 and bool((np.abs(v) < _LARGEST).all()),
    OutputKind.MEAN: lambda v: v.ndim == 1 and bool((np.abs(v) <= 1 + _ROUNDING).all()),
    OutputKind.WEIGHTS: lambda v: v.ndim == 1 and bool((np.abs(v) < 2.0**PARAMETER_LIMIT_BITS).all()),
}
_IS_POSSIBLE_WITH_NOISE: dict[OutputKind, Callable[[NDArray[np.float64]], bool]] = {
    OutputKind.PROBABILITY: _IS_POSSIBLE[OutputKind.SCORE],
    OutputKind.VALUE: _IS_POSSIBLE[OutputKind.VALUE],
    OutputKind.MEAN: _IS_POSSIBLE[OutputKind.VALUE],
    OutputKind.LOG_LOSS: _is_noisy_loss,
    OutputKind.SQUARED_ERROR: _is_noisy_loss,
    OutputKind.GROUP_MEANS: _are_noisy_groups,
    OutputKind.CENTROIDS: lambda v: _are_noisy_groups(v) and bool((np.abs(v[:, :-1]) <= 1).all()),
}
