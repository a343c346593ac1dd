"""Opens an output: the refreshed shares of all computing parties meet here, at its recipient, and nowhere else.

In this order, so that nobody chooses its share after having seen another's:

1. Every computing party shows the ending that it signed; all show one set of commitments. Else nothing is fetched.
2. Every computing party hands out its share with its nonce; each is the one that it committed to.
3. The shares are combined (`governance.opening`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from governance.commitments import CommittedShare, one_set
from governance.opening import open_committed
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output
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


@dataclass(frozen=True)
class Opened:
    """An output that was opened here.

    Attributes:
        value: what it is.
        shares: of which it was combined, each with its nonce, in the order of the computing parties; who has them has the value.
    """

    value: NDArray[np.float64] | NDArray[np.int64]
    shares: tuple[CommittedShare, ...] = field(repr=False)


def open_output(
    job: Job,
    output: Output,
    *,
    replies: Sequence[jobs_pb2.FetchOutputReply],
    commitments: Mapping[str, Mapping[str, str]],
) -> Opened:
    """Checks the computing parties' shares of one output against their commitments and combines them.

    Args:
        job: the job.
        output: which of its outputs.
        replies: what each computing party handed out, in their order; secret.
        commitments: what `agreed_commitments` returned before anything was fetched.

    Raises:
        ConfideError: as `open_committed`.
    """
    shares = tuple(
        CommittedShare(
            session=job.job_id,
            attempt=job.attempt,
            output=output.name,
            party=party,
            shape=tuple(reply.shape),
            scale_bits=reply.scale_bits,
            share=reply.share,
            nonce=reply.nonce,
        )
        for party, reply in zip(job.computing_parties, replies, strict=True)
    )
    return Opened(open_committed(job, output, shares, commitments=commitments), shares)
