"""What is kept of a standing assessment beside its runs: entries of the audit log, and the signature of who ordered it."""

from __future__ import annotations

from datetime import datetime

from governance.audit.entries import EntryKind, Fact
from governance.evidence.standing import StandingAssessment
from governance.people.roles import Action
from governance.policy.rules import Policy
from parties.authority import require_authorised
from parties.storage.assessments import OrderRecord
from parties.storage.database import Tables
from protocols.canonical import sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job

_MOST_WHAT = 1_000  # characters of a fact


def note_order(tables: Tables, order: StandingAssessment, step: str, what: str, *, job: Job | None = None, now: datetime) -> None:
    """Writes into the audit log what became of an order, or of one of its runs."""
    facts: dict[str, Fact] = {
        "order": order.digest,
        "model": order.ref.label,
        "step": step,
        "what": what[:_MOST_WHAT],
        "job": None if job is None else job.job_id,
    }
    tables.audit.append(EntryKind.STANDING_ASSESSMENT, facts, now=now)


def require_order_stands(tables: Tables, record: OrderRecord, *, party: str, policy: Policy, now: datetime) -> None:
    """Checks that an order's time is not over, and that who ordered it may still do so.

    Raises:
        ConfideError: NOT_AUTHORISED (nobody's fault), with the reason.
    """
    order = record.order
    if now >= order.until:
        raise ConfideError(ErrorCode.NOT_AUTHORISED, "its time is over")
    for signed in tables.authorisations.all():
        if sha256_hex(signed.to_bytes()) == record.authorisation:
            require_authorised(signed, party, policy, Action.ORDER_ASSESSMENT, order.digest)
            return
    raise ConfideError(ErrorCode.NOT_AUTHORISED, "the signature of the person who ordered it is not kept here")
