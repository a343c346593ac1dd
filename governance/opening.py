"""The one way in which shares of an output become its value: checked against their commitments first, then combined.

Whoever opens an output does so here: its recipient with the shares that the computing parties hand out, and an owner with those
that a researcher shows it, against the ending that it keeps itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from governance.commitments import CommittedShare, check_opening
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output
from protocols.mpc.query import combine_output


def open_committed(
    job: Job, output: Output, shares: Sequence[CommittedShare], *, commitments: Mapping[str, Mapping[str, str]]
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Checks the computing parties' shares of one output against their commitments and combines them.

    Args:
        job: the job.
        output: which of its outputs.
        shares: one of each computing party, in their order; secret.
        commitments: by party and output, of an ending that the caller believes.

    Returns:
        As `combine_output`.

    Learns: the caller the output.

    Raises:
        ConfideError: COMMITMENT_DIFFERS (the fault of the party named, or of whoever shows its share): another share than it
            committed to; BAD_FRAME (likewise): shares that do not fit their shape or each other, or are not one of each party.
    """
    if tuple(opened.party for opened in shares) != job.computing_parties:
        raise ConfideError(ErrorCode.BAD_FRAME, "not one share of each computing party")
    arrays = []
    for opened in shares:
        check_opening(opened, commitments[opened.party][output.name])
        if (opened.shape, opened.scale_bits) != (shares[0].shape, shares[0].scale_bits):
            what = "the parties' shares of an output do not fit together"
            raise ConfideError(ErrorCode.BAD_FRAME, what, party=opened.party)
        if len(opened.share) != 8 * math.prod(opened.shape):
            raise ConfideError(ErrorCode.BAD_FRAME, "a share has not the size of its shape", party=opened.party)
        arrays.append(np.frombuffer(opened.share, "<i8").astype(np.int64).reshape(opened.shape))
    return combine_output(arrays, output=output, scale_bits=shares[0].scale_bits, num_rows=job.num_rows)
