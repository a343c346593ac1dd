"""The querier's side: samples become shares, output shares become values. Needs no CrypTen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS, VALUE_LIMIT_BITS, decode, encode
from protocols.job_parts import MAX_CLASSES, Output, OutputKind
from protocols.mpc.inputs import ROW_LIMIT
from protocols.prg import ByteSource
from protocols.ring import RingArray
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


def combine_output(shares: Sequence[RingArray], *, output: Output, scale_bits: int) -> NDArray[np.float64] | NDArray[np.int64]:
    """Opens an output from the shares of all computing parties.

    Args:
        shares: one int64 array from each computing party, of one shape.
        output: what the output is, and its constraint.
        scale_bits: its fractional bits, as the plan says.

    Returns:
        correct_count: (1,) int64; with a minimum cell c above 1, 0 stands for fewer than c correct rows, and the number of all
            rows for fewer than c wrong ones.
        confusion: (classes, classes) int64, true class by predicted class; -1 in cells that are withheld.
        roc_auc, log_loss, squared_error: (1,) float64; NaN if a rate or a log loss is withheld.
        centroids, group_means: (groups, features + 1) float64: means of scaled features, and last how many rows; NaN throughout a
            group that is withheld, and for the means of one without rows.
        label: (rows,) int64, the index of the class.
        probability: (rows,) or (rows, classes) float64 within [0, 1]; score: of the same shape, float64; value: (rows,) float64;
            all as rounded, clipped and chosen as the constraint says.

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
    if not _IS_POSSIBLE[kind](values) or not _keeps_constraint(values, output):
        raise ConfideError(ErrorCode.BAD_FRAME, f"the shares do not combine to a {kind.value}")
    match kind:
        case OutputKind.CORRECT_COUNT | OutputKind.CONFUSION | OutputKind.LABEL:
            return values.astype(np.int64)
        case OutputKind.PROBABILITY:
            return np.clip(values, 0.0, 1.0)
        case OutputKind.ROC_AUC:
            return np.where(values == WITHHELD, np.nan, np.clip(values, 0.0, 1.0))
        case OutputKind.LOG_LOSS:
            return np.where(values == WITHHELD, np.nan, np.maximum(values, 0.0))
        case OutputKind.SQUARED_ERROR:
            return np.maximum(values, 0.0)
        case OutputKind.CENTROIDS | OutputKind.GROUP_MEANS:
            told = np.where(values[:, -1:] == WITHHELD, np.nan, values)
            told[told[:, -1] == 0, :-1] = np.nan
            return told
        case OutputKind.SCORE | OutputKind.VALUE:
            return values


WITHHELD = -1.0
_ROUNDING = 2.0**-12  # the approximations may lead a probability or a rate this little outside its range
_CLIP_ROUNDING = 2.0**-40  # a decimal is no float64
_LARGEST = 2.0**VALUE_LIMIT_BITS  # declared: no output reaches it


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


_IS_POSSIBLE: dict[OutputKind, Callable[[NDArray[np.float64]], bool]] = {
    OutputKind.CORRECT_COUNT: lambda v: v.shape == (1,) and _is_whole(v, least=0),
    OutputKind.CONFUSION: lambda v: v.ndim == 2 and v.shape[0] == v.shape[1] and _is_whole(v, least=WITHHELD),
    OutputKind.ROC_AUC: lambda v: v.shape == (1,) and _is_rate(v),
    OutputKind.LOG_LOSS: lambda v: v.shape == (1,) and bool(-_ROUNDING <= v[0] < _LARGEST or v[0] == WITHHELD),
    OutputKind.SQUARED_ERROR: lambda v: v.shape == (1,) and bool(-_ROUNDING <= v[0] < _LARGEST),
    OutputKind.CENTROIDS: _are_groups,
    OutputKind.GROUP_MEANS: _are_groups,
    OutputKind.LABEL: lambda v: v.ndim == 1 and _is_whole(v, least=0) and bool((v < MAX_CLASSES).all()),
    OutputKind.PROBABILITY: lambda v: v.ndim in (1, 2) and bool(((v >= -_ROUNDING) & (v <= 1 + _ROUNDING)).all()),
    OutputKind.SCORE: lambda v: v.ndim in (1, 2) and bool((np.abs(v) < _LARGEST).all()),
    OutputKind.VALUE: lambda v: v.ndim == 1 and bool((np.abs(v) < _LARGEST).all()),
}
