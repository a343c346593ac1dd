"""The querier's side: samples become shares, output shares become values. Needs no CrypTen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS, decode, encode
from protocols.job import OutputKind
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


def combine_output(shares: Sequence[RingArray], *, kind: OutputKind, scale_bits: int) -> NDArray[np.float64] | NDArray[np.int64]:
    """Opens an output from the shares of all computing parties.

    Args:
        shares: one int64 array from each computing party, of one shape.
        kind: what the output is.
        scale_bits: its fractional bits, as the plan says.

    Returns:
        correct_count: (1,) int64; label: (rows,) int64 of 0 and 1; probability: (rows,) float64 within 1e-4 and [0, 1].

    Raises:
        ConfideError: BAD_FRAME (a computing party's fault) if the shares do not fit together or give no such output.
    """
    if len(shares) < 2 or len({share.shape for share in shares}) != 1:
        raise ConfideError(ErrorCode.BAD_FRAME, "the output shares do not fit together")
    values = decode(combine_additive(shares), scale_bits=scale_bits)
    if not _IS_POSSIBLE[kind](values):
        raise ConfideError(ErrorCode.BAD_FRAME, f"the shares do not combine to a {kind.value}")
    match kind:
        case OutputKind.CORRECT_COUNT | OutputKind.LABEL:
            return values.astype(np.int64)
        case OutputKind.PROBABILITY:
            return np.clip(values, 0.0, 1.0)


_ROUNDING = 2.0**-12  # the sigmoid's error may lead a probability this little outside [0, 1]
_IS_POSSIBLE: dict[OutputKind, Callable[[NDArray[np.float64]], bool]] = {
    OutputKind.CORRECT_COUNT: lambda v: v.shape == (1,) and v[0] >= 0 and v[0] == np.rint(v[0]),
    OutputKind.LABEL: lambda v: bool(np.isin(v, (0.0, 1.0)).all()),
    OutputKind.PROBABILITY: lambda v: bool(((v >= -_ROUNDING) & (v <= 1 + _ROUNDING)).all()),
}
