"""Counts of an assessment as a test's computing parties would hand them out: in shares, with nonces and commitments."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from governance.commitments import NONCE_BYTES, CommittedShare, commitment_of
from protocols.fixed_point import VALUE_BITS, encode
from protocols.job import Assessment, Job, JobType, Output, OutputKind
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.secrets import SecretBytes
from protocols.sharing import share_additive
from tests.support.jobs import an_evaluation
from tests.support.programs import by_sides

# Of 150 members and 150 others, at the three thresholds of `an_assessment`.
COUNTS = np.array([[40, 20], [22, 9], [12, 5]])


def an_assessment(consortium: str) -> Job:
    """An attack on a model with the rows of two owners, each half members and half others."""
    return replace(
        by_sides(an_evaluation()),
        consortium=consortium,
        job_type=JobType.ASSESS,
        outputs=(Output("attack-counts", OutputKind.ATTACK_COUNTS, "alice", 5),),
        assessment=Assessment((0, 2, 4), ("-1", "0", "1.5"), "lira", 16),
    )


def shares_of(job: Job, counts: NDArray[np.int64]) -> tuple[CommittedShare, ...]:
    """Shares of the counts of a job, always the same."""
    source = AesCtrStream(SecretBytes(bytes(KEY_BYTES)))
    values = encode(counts.astype(np.float64), scale_bits=VALUE_BITS, limit=float(2**20))
    parts = share_additive(values, num_parties=len(job.computing_parties), source=source)
    return tuple(
        CommittedShare(
            session=job.job_id,
            attempt=job.attempt,
            output=job.outputs[0].name,
            party=party,
            shape=counts.shape,
            scale_bits=VALUE_BITS,
            share=np.ascontiguousarray(part, "<i8").tobytes(),
            nonce=hashlib.sha256(f"{job.job_id}/{party}".encode()).digest()[:NONCE_BYTES],
        )
        for party, part in zip(job.computing_parties, parts, strict=True)
    )


def commitments_to(shares: Sequence[CommittedShare]) -> dict[str, dict[str, str]]:
    """What the ending of their job says of shares."""
    return {each.party: {each.output: commitment_of(each)} for each in shares}
