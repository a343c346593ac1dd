"""What an owner's canaries show of a private training: from the worker into the audit log, and told to every other party.

Whoever holds the model takes it into evidence beside the claim (`parties.told_audits`): an owner that does not compute makes no
bundle, and what its canaries show must reach those that do.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from governance.audit.entries import EntryKind
from governance.canary_audit import CanaryAudit, sign_canary_audit
from parties.model_registry import Holder
from parties.storage.database import Tables
from privacy.audit.terms import MIN_CANARIES
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.job_fields import check_decimal

_COUNTS = ("canaries", "guesses", "correct")


def note_canary_audit(tables: Tables, holder: Holder, job: Job, document: Any, *, now: datetime) -> None:
    """Notes the bound that a worker worked out, and states it to the others; without one, nothing.

    Args:
        tables: of the transaction.
        holder: this party.
        job: the training.
        document: what the worker says of the canaries; None without any.
        now: the time, UTC.

    Raises:
        ConfideError: INTERNAL (ours) if it is no bound.
    """
    if document is None:
        return
    try:
        counts = {name: document[name] for name in _COUNTS}
        bounds = {name: document[name] for name in ("epsilon", "confidence")}
        wrong = [
            *check_decimal("epsilon", bounds["epsilon"], Decimal(0), Decimal(64)),
            *check_decimal("confidence", bounds["confidence"], Decimal(0), Decimal(1)),
        ]
    except (KeyError, TypeError) as error:
        raise ConfideError(ErrorCode.INTERNAL, "the worker says something of canaries that is no audit") from error
    whole = all(type(count) is int and count >= 0 for count in counts.values())
    if wrong or not whole or counts["canaries"] < MIN_CANARIES:
        raise ConfideError(ErrorCode.INTERNAL, "the worker says something of canaries that is no audit")
    tables.audit.append(EntryKind.CANARIES_SCORED, {"job": job.job_id, **bounds, **counts}, now=now)
    found = CanaryAudit(holder.consortium, holder.party, job.job_id, **bounds, canaries=counts["canaries"])
    tables.statements.say(sign_canary_audit(found, holder.key), now=now)
