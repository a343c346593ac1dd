"""Releases of weights at this party: the gate on evidence before a job is accepted and opened, and the licence beside them."""

from __future__ import annotations

import math
from datetime import datetime

from governance.admission import Finding
from governance.documents import SignedDocument
from governance.evidence.gate import Verdict
from governance.licence import Licence, sign_licence
from governance.lineage.standing import trainings_behind
from governance.privacy_claims import claims_of
from parties.evidence import judge, remedy_for, require_release, warm_statements
from parties.lineage import trainings_behind_job
from parties.server.party import Party
from parties.storage.database import Tables
from protocols.canonical import canonical_bytes, parse_canonical, sha256_hex
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import Job, JobType
from protocols.job_parts import OutputKind
from protocols.session.endings import Ending

_REMEDY = (
    "have this holder make a bundle of its evidence (`confide model evidence make`), and people approve it there "
    "(`confide model evidence approve`); then submit the job again"
)


def warm_release(party: Party, job: Job) -> None:
    """Derives what the gate will ask of a release, before the transaction in which it is decided opens."""
    if job.job_type is JobType.RELEASE and job.model_ref is not None:
        warm_statements(party.database.transaction, job.model_ref, party=party.id, now=party.now())


def release_findings(party: Party, tables: Tables, job: Job, now: datetime) -> tuple[Finding, ...]:
    """Returns every reason for which a model's weights may not leave this party's hands; empty for other jobs.

    Each holder asks its own policy by its own bundle; who only deals holds nothing that could leave.

    Args:
        party: this party.
        tables: of the transaction in which the job is decided; nothing is written.
        job: what is asked.
        now: the time, UTC.
    """
    if job.job_type is not JobType.RELEASE or job.model_ref is None or party.id not in job.computing_parties:
        return ()
    try:
        record = tables.evidence.latest(job.model_ref)
        found = judge(tables, record, party=party.id, policy=party.policy, directory=party.directory, now=now)
    except ConfideError as error:  # whatever keeps the gate from deciding, nothing leaves
        return (Finding(ErrorCode.EVIDENCE_MISSING, Problem("model_ref", error.what, _REMEDY)),)
    if found.verdict is Verdict.PASS:
        return ()
    return tuple(
        Finding(ErrorCode.EVIDENCE_MISSING, Problem("model_ref", f"{reason.code.value}: {reason.what}", remedy_for(reason)))
        for reason in found.reasons
    )


def note_release(party: Party, tables: Tables, job: Job, now: datetime) -> None:
    """Writes down that the gate on evidence has passed a release, in the transaction that makes its openings.

    Raises:
        ConfideError: EVIDENCE_MISSING, with every reason.
    """
    if job.job_type is JobType.RELEASE and job.model_ref is not None:
        require_release(tables, party=party.id, policy=party.policy, directory=party.directory, ref=job.model_ref, now=now)


def licence_for(party: Party, job: Job, output: str) -> bytes:
    """Returns this party's signed licence for the weights that an output opens; empty for other outputs.

    It ends with the first of the permissions that the release counts against here: the agreement, and the grants of this
    party's own rows for what comes of them.

    Raises:
        ConfideError: NOT_READY: the ending is not known here yet.
    """
    if all((each.name, each.kind) != (output, OutputKind.WEIGHTS) for each in job.outputs) or job.model_ref is None:
        return b""
    with party.database.transaction() as tables:
        kept = tables.jobs.ending(job.job_id)
        if kept is None:
            raise ConfideError(ErrorCode.NOT_READY, "the job's ending is not known here yet", party=party.id)
        ending = Ending.from_document(parse_canonical(SignedDocument.from_bytes(kept).body))
        used = [tables.grants.get(grant_id).grant for grant_id in tables.grants.used_by(job.job_id)]
        agreement = tables.agreements.get(job.agreement).agreement
        made_by = tables.models.get(job.model_ref).job_id
        behind = trainings_behind(made_by, trainings_behind_job(tables, made_by))
        licence = Licence(
            consortium=job.consortium,
            issuer=party.id,
            job=job.job_id,
            attempt=job.attempt,
            output=output,
            ref=job.model_ref,
            manifest_sha256=sha256_hex(canonical_bytes(job.model.to_document())),
            parameters=sum(math.prod(spec.shape) for spec in job.model.parameters),
            purpose=job.purpose,
            recipients=(job.querier,),
            commitments={name: ending.commitments[name][output] for name in job.computing_parties},
            issued=job.created,
            expires=min([agreement.expires, *(grant.derived_until for grant in used)]),
            claims=claims_of(facts.job for facts in behind),
        )
        return sign_licence(licence, party.member.signing_key).to_bytes()
