"""Released weights on a disk, as two computing parties would have handed them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from governance.commitments import CommittedShare, commitment_of
from governance.identity.keys import SigningKey
from governance.licence import Licence, sign_licence
from governance.privacy_claims import TrainingClaim
from parties.released import HandedShare, keep_released
from protocols.canonical import canonical_bytes, sha256_hex
from protocols.job import Job, JobType, ModelRef, Output, OutputKind
from tests.support.members import NOW, World
from tests.support.mpc_world import a_job, a_model, split

REF = ModelRef("diagnosis", "0123456789ab")
FEATURES = 4
PARTIES = ("hospital-a", "hospital-b")
UNTIL = NOW + timedelta(days=90)
CLAIMS = (TrainingClaim("ab" * 16, "1", "0.00001", "zero-out", "row", 1),)


@dataclass(frozen=True)
class Handed:
    """A release and what the parties handed out."""

    job: Job
    weights: dict[str, np.ndarray]
    replies: list[HandedShare]


def a_release() -> Job:
    output = Output("weights", OutputKind.WEIGHTS, "alice")
    job = a_job(JobType.INFER, model=a_model(FEATURES), computing=PARTIES, dealer="hospital-c", query_rows=1)
    fields = vars(job) | {
        "consortium": "cardio",
        "querier": "alice",
        "job_type": JobType.RELEASE,
        "query_rows": None,
        "query_commitment": None,
        "model_ref": REF,
        "outputs": (output,),
        "created": NOW,
        "agree_by": NOW + timedelta(minutes=2),
        "expires": NOW + timedelta(minutes=30),
    }
    return Job(**{name: fields[name] for name in Job.__annotations__})


def licence_of(job: Job, party: str, commitments: dict[str, str], *, expires: datetime = UNTIL) -> Licence:
    return Licence(
        consortium=job.consortium,
        issuer=party,
        job=job.job_id,
        attempt=1,
        output="weights",
        ref=job.model_ref or REF,
        manifest_sha256=sha256_hex(canonical_bytes(job.model.to_document())),
        parameters=FEATURES + 1,
        purpose=job.purpose,
        recipients=(job.querier,),
        commitments=commitments,
        issued=job.created,
        expires=expires,
        claims=CLAIMS,
    )


def handed_out(world: World, *, change: Callable[[Licence], Licence] = lambda licence: licence) -> Handed:
    """What both parties hand out; `change` alters their licences before they sign them."""
    keys = {"hospital-a": world.hospital_a.signing, "hospital-b": world.hospital_b.signing}
    return handed_by(keys, a_release(), change=change)


def handed_by(
    keys: Mapping[str, SigningKey], job: Job, *, change: Callable[[Licence], Licence] = lambda licence: licence
) -> Handed:
    """The same of any release, by the parties' keys."""
    ring = np.random.default_rng(5).integers(-(1 << 26), 1 << 26, FEATURES + 1)
    opened = {
        party: CommittedShare(job.job_id, 1, "weights", party, share.shape, 24, share.astype("<i8").tobytes(), bytes([n]) * 32)
        for n, (party, share) in enumerate(zip(PARTIES, split(ring, 2), strict=True))
    }
    commitments = {party: commitment_of(share) for party, share in opened.items()}
    replies = []
    for number, (party, share) in enumerate(opened.items()):
        licence = change(licence_of(job, party, commitments, expires=UNTIL - timedelta(days=number)))
        signed = sign_licence(licence, keys[party]).to_bytes()
        replies.append(HandedShare(party, share.share, share.nonce, signed))
    flat = (ring / 2.0**24).astype(np.float32)
    starts = np.cumsum([0, *(int(np.prod(spec.shape)) for spec in job.model.parameters)])
    weights = {
        spec.name: flat[start : start + int(np.prod(spec.shape))].reshape(spec.shape)
        for spec, start in zip(job.model.parameters, starts, strict=False)
    }
    return Handed(job, weights, replies)


def a_folder(folder: Path, world: World) -> Handed:
    """Keeps what was handed out in a folder."""
    handed = handed_out(world)
    keep_released(folder, handed.job, handed.replies, world.directory)
    return handed
