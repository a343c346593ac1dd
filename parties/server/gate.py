"""This party's release gate at work: what it knows of a job when `governance.release` decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from governance.audit.entries import EntryKind
from governance.documents import SignedDocument
from governance.release import Evidence, Settlement, Withheld
from parties.server.charges import charges_of
from parties.server.consents import consent_findings, ended_elsewhere
from parties.server.party import Party
from parties.server.releases import release_findings
from parties.storage.database import Tables
from protocols.canonical import parse_canonical
from protocols.job import Job
from protocols.plan.plan import Plan
from protocols.session.endings import Ending


def evidence_of(party: Party, tables: Tables, job: Job, now: datetime) -> Evidence:
    """Returns what this party knows of a job whose results are sealed here, as of one transaction."""
    plan = tables.jobs.plan(job.job_id)
    planned = () if plan is None else Plan.from_document(parse_canonical(plan.document)).outputs
    sealed = {record.name: record.shape for record in tables.outputs.of_job(job.job_id)}
    used = [tables.grants.get(grant_id) for grant_id in tables.grants.used_by(job.job_id)]
    missing = (
        *consent_findings(party, tables, job, now),
        *ended_elsewhere(party, tables, job, now),
    )
    return Evidence(
        plan_digest="" if plan is None else plan.digest,
        planned={output.name: output.shape for output in planned},
        sealed=sealed if party.id in job.computing_parties else None,
        countersignatures={record.party: record.plan_digest for record in tables.jobs.countersignatures(job.job_id)},
        missing_consent=[finding.problem for finding in missing],
        missing_evidence=[finding.problem for finding in release_findings(party, tables, job, now)],
        output_rules={record.grant_id: record.grant.outputs for record in used},
    )


def settlement_of(party: Party, tables: Tables, job: Job) -> Settlement:
    """Returns what this party knows besides of a job that has ended here, as of one transaction."""
    debited = tables.ledger.is_committed(job.job_id, charges_of(tables, job, party.id))
    kept = tables.jobs.ending(job.job_id)
    if kept is None:
        return Settlement(debited, {})
    ending = Ending.from_document(parse_canonical(SignedDocument.from_bytes(kept).body))
    return Settlement(debited, ending.commitments)


def note_withheld(tables: Tables, job: Job, reasons: Sequence[Withheld], *, now: datetime) -> None:
    """Keeps that nothing of a job is opened here, for good, with entries in the audit log; again changes nothing."""
    if tables.outputs.withheld(job.job_id):
        return
    tables.outputs.withhold(job.job_id, "; ".join(str(reason) for reason in reasons))
    rules = sorted({reason.rule.value for reason in reasons})
    facts = [{"job": job.job_id, "output": output.name, "rules": rules} for output in job.outputs]
    tables.audit.append_many([(EntryKind.OUTPUT_WITHHELD, each) for each in facts], now=now)
