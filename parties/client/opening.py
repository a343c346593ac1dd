"""Opens an output: the refreshed shares of all computing parties meet here, at its recipient, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import OutputKind
from protocols.mpc.query import combine_output


def open_output(replies: Sequence[jobs_pb2.FetchOutputReply], *, kind: OutputKind) -> NDArray[np.float64] | NDArray[np.int64]:
    """Combines the computing parties' shares of one output.

    Raises:
        ConfideError: BAD_FRAME (the fault of the party named): shares that do not fit their shape or each other.
    """
    shares = []
    for reply in replies:
        if (reply.shape, reply.scale_bits) != (replies[0].shape, replies[0].scale_bits):
            raise ConfideError(ErrorCode.BAD_FRAME, "the parties' shares of an output do not fit together", party=reply.party)
        if len(reply.share) != 8 * int(np.prod(reply.shape, dtype=np.int64)):
            raise ConfideError(ErrorCode.BAD_FRAME, "a share has not the size of its shape", party=reply.party)
        shares.append(np.frombuffer(reply.share, "<i8").astype(np.int64).reshape(tuple(reply.shape)))
    return combine_output(shares, kind=kind, scale_bits=replies[0].scale_bits)
