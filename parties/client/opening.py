"""Opens an output: the refreshed shares of all computing parties meet here, at its recipient, and nowhere else.

In this order, so that nobody chooses its share after having seen another's:

1. Every computing party shows the ending that it signed; all show one set of commitments. Else nothing is fetched.
2. Every computing party hands out its share with its nonce; each is the one that it committed to.
3. The shares are combined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from governance.commitments import CommittedShare, check_opening, one_set
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output
from protocols.mpc.query import combine_output
from protocols.session.endings import Ending
from protocols.session.states import State


def agreed_commitments(job: Job, endings: Mapping[str, Ending | None]) -> Mapping[str, Mapping[str, str]]:
    """Returns the one set of commitments that all computing parties show, by party and output.

    Args:
        job: the job.
        endings: what each computing party shows, its signature verified; None if it shows none yet.

    Raises:
        ConfideError: NOT_READY: a party has not heard of an ending yet; JOB_FAILED: the job did not complete;
            COMMITMENT_DIFFERS (a party's fault, or the lead's): there is not one set. Nothing may be fetched then.
    """
    shown = {}
    for party, ending in endings.items():
        if ending is None:
            raise ConfideError(ErrorCode.NOT_READY, f"{party} shows no ending of the job yet", party=party)
        if ending.state is not State.COMPLETED:
            raise ConfideError(ErrorCode.JOB_FAILED, f"the job is {ending.state.value}; nothing is opened")
        shown[party] = ending.commitments
    return one_set(shown, outputs=frozenset(output.name for output in job.outputs))


def open_output(
    job: Job,
    output: Output,
    *,
    replies: Sequence[jobs_pb2.FetchOutputReply],
    commitments: Mapping[str, Mapping[str, str]],
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Checks the computing parties' shares of one output against their commitments and combines them.

    Args:
        job: the job.
        output: which of its outputs.
        replies: what each computing party handed out, in their order; secret.
        commitments: what `agreed_commitments` returned before anything was fetched.

    Raises:
        ConfideError: COMMITMENT_DIFFERS (the fault of the party named): another share than it committed to; BAD_FRAME (likewise):
            shares that do not fit their shape or each other.
    """
    shares = []
    for party, reply in zip(job.computing_parties, replies, strict=True):
        opened = CommittedShare(
            session=job.job_id,
            attempt=job.attempt,
            output=output.name,
            party=party,
            shape=tuple(reply.shape),
            scale_bits=reply.scale_bits,
            share=reply.share,
            nonce=reply.nonce,
        )
        check_opening(opened, commitments[party][output.name])
        if (reply.shape, reply.scale_bits) != (replies[0].shape, replies[0].scale_bits):
            raise ConfideError(ErrorCode.BAD_FRAME, "the parties' shares of an output do not fit together", party=party)
        if len(reply.share) != 8 * math.prod(reply.shape):
            raise ConfideError(ErrorCode.BAD_FRAME, "a share has not the size of its shape", party=party)
        shares.append(np.frombuffer(reply.share, "<i8").astype(np.int64).reshape(tuple(reply.shape)))
    return combine_output(shares, output=output, scale_bits=replies[0].scale_bits)
