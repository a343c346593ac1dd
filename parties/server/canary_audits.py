"""What an owner's canaries show of a private training, from the worker into the audit log, where evidence is taken from."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from governance.audit.entries import EntryKind
from parties.storage.database import Tables
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.job_fields import check_decimal

_COUNTS = ("canaries", "guesses", "correct")


def note_canary_audit(tables: Tables, job: Job, document: Any, *, now: datetime) -> None:
    """Notes the bound that a worker worked out; without one, nothing.

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
    if wrong or any(type(count) is not int or count < 0 for count in counts.values()):
        raise ConfideError(ErrorCode.INTERNAL, "the worker says something of canaries that is no audit")
    tables.audit.append(EntryKind.CANARIES_SCORED, {"job": job.job_id, **bounds, **counts}, now=now)
