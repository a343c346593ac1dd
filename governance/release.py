"""The one place from which shares may be opened: single-use grants, derived from a job that everybody countersigned.

A `RevealGrant` names one output of one job and its one recipient. Nothing else in the system makes one, and a party hands an
output share to nobody without using one up (`parties/storage`, `GrantStore.use_once`). Fuller policy attaches here later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job


@dataclass(frozen=True)
class RevealGrant:
    """Permission to hand this party's share of one output to one recipient, once; public.

    Attributes:
        grant_id: 64 hexadecimal digits, the same at every party.
        job_id: the job.
        output: name of the output.
        recipient: who receives it.
    """

    grant_id: str
    job_id: str
    output: str
    recipient: str


def grants(job: Job, *, plan_digest: str, countersignatures: Mapping[str, str]) -> tuple[RevealGrant, ...]:
    """Makes the grants for a job's outputs.

    Args:
        job: the job.
        plan_digest: the plan that this party ran.
        countersignatures: for each participant, the plan digest in its verified countersignature.

    Raises:
        ConfideError: NO_GRANT (nobody's fault): a participant has not countersigned this job with this plan.
    """
    for party in job.participants:
        if countersignatures.get(party) != plan_digest:
            raise ConfideError(ErrorCode.NO_GRANT, f"{party} has not countersigned this job with this plan", party=party)
    return tuple(
        RevealGrant(_grant_id(job, plan_digest, output.name, output.recipient), job.job_id, output.name, output.recipient)
        for output in job.outputs
    )


def _grant_id(job: Job, plan_digest: str, output: str, recipient: str) -> str:
    text = "\0".join(("confide.grant/1", job.digest, plan_digest, output, recipient))
    return hashlib.sha256(text.encode()).hexdigest()
