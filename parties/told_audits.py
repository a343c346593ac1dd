"""Audits by canaries that a party knows: its own, and those that the other owners of the rows have told it."""

from __future__ import annotations

from decimal import Decimal

from governance.canary_audit import CanaryAudit, read_canary_audit
from governance.documents import DocumentKind, SignedDocument
from parties.storage.database import Tables
from privacy.audit.terms import CONFIDENCE
from protocols.job import Job
from protocols.mpc.noisy_sums_design import canaries_of
from protocols.private_job_checks import contributors


def told_audits(tables: Tables, job: Job, *, party: str) -> tuple[SignedDocument, ...]:
    """Returns the audit of each owner that has told one, by owner.

    An owner that told several has the worst that it told: what was said is not taken back. One about other canaries than
    the job's, or with less confidence than an audit has, says nothing.

    Args:
        tables: of the transaction; nothing is written.
        job: a private training.
        party: this party.
    """
    owners = set(contributors(job))
    told = tables.statements.own(DocumentKind.CANARY_AUDIT, party=party) if party in owners else ()
    told += tables.statements.heard(DocumentKind.CANARY_AUDIT, by=owners - {party})
    named = job.job_id.encode()
    worst: dict[str, tuple[CanaryAudit, SignedDocument]] = {}
    for signed in told:
        if named not in signed.body:
            continue
        audit = read_canary_audit(signed.document)
        if audit.job != job.job_id or not _is_whole(audit, job):
            continue
        known = worst.get(audit.owner)
        if known is None or _order(audit, signed) > _order(*known):
            worst[audit.owner] = (audit, signed)
    return tuple(signed for _, (_, signed) in sorted(worst.items()))


def _is_whole(audit: CanaryAudit, job: Job) -> bool:
    """Whether it is about the canaries that the job gives its owner, at the confidence at which a bound says anything."""
    return audit.canaries == len(canaries_of(job, audit.owner)) and Decimal(audit.confidence) >= Decimal(str(CONFIDENCE))


def _order(audit: CanaryAudit, signed: SignedDocument) -> tuple[Decimal, bytes]:
    return Decimal(audit.epsilon), signed.body  # the same at every party, in whatever order they arrived
