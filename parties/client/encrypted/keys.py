"""A researcher's key for one lane of one published model: what it may still do, and what is counted before values are given out.

Answers are rounded under noise of the researcher's own before anybody sees them (`protocols.ckks.publication`), 2^s times the
error that depends on the key. Each opened answer may be published, and averages thin that noise out: after 4^s of them the rest
would be as small as the error. So a key opens 4^s answers and no more. That is hygiene, as s itself is, not a proof.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from governance.consent.reading import time_text
from governance.encrypted.published import PublishedModel
from protocols.canonical import sha256_hex
from protocols.ckks.engine import Engine
from protocols.ckks.key_owner import KeyOwner
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.publication import publication
from protocols.errors import ConfideError, ErrorCode

Keep = Callable[[KeyOwner], None]
MOST_OPENED = 1 << 20


def most_opened(plan: EncryptedPlan) -> int:
    """Returns how many answers a key may open under a plan: 4^s, see the module."""
    return int(min(MOST_OPENED, 4.0 ** publication(plan).bits))


@dataclass(frozen=True, eq=False)
class QueryKey:
    """A key for one lane of one published model.

    Attributes:
        name: of its file; empty for one that lives in this process alone.
        published: digest of the description that it was made for.
        lane: of which of its plans.
        plan: that plan.
        owner: holds the secret key.
        message: the evaluation keys as they are uploaded; public.
        created: UTC.
        expires: nothing is asked under it from then on.
        keep: stores the count of opened answers, before their values are given out.
    """

    name: str
    published: str
    lane: str
    plan: EncryptedPlan = field(repr=False)
    owner: KeyOwner = field(repr=False)
    message: bytes = field(repr=False)
    created: datetime
    expires: datetime
    keep: Keep = field(repr=False, default=lambda owner: None)

    @property
    def digest(self) -> str:
        """SHA-256 of the evaluation keys, 64 hexadecimal digits: how an enquiry names the key."""
        return sha256_hex(self.message)

    @property
    def openings_left(self) -> int:
        """How many answers it may still open."""
        return max(0, most_opened(self.plan) - self.owner.answers_opened)

    def require(self, *, requests: int, now: datetime) -> None:
        """Checks that it may be used for so many queries more.

        Raises:
            ConfideError: JOB_EXPIRED: it is too old; BUDGET_EXHAUSTED: too many answers would be opened under it (the
                researcher's to mend).
        """
        if now >= self.expires:
            what = f"the key {self.name} expired at {time_text(self.expires)}"
            raise ConfideError(ErrorCode.JOB_EXPIRED, what, remedy="Make a new one: `confide infer keygen`.")
        if requests > self.openings_left:
            what = (
                f"the key may open {self.openings_left} answers more, of {most_opened(self.plan)} in all, and {requests} are"
                " needed: what is published of more could give it away"
            )
            raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, what, remedy="Make a new key: `confide infer keygen`.")

    def encrypt(self, rows: NDArray[np.float64]) -> bytes:
        """Returns the query about samples `(rows, features) float64`, secret, within the plan's range."""
        return self.owner.encrypt_query(self.plan, rows)

    def open(self, answer: bytes, num_rows: int) -> NDArray[np.float64]:
        """Returns the outputs `(num_rows, outputs) float64` of an answer, rounded, once their opening is counted.

        Raises:
            ConfideError: BUDGET_EXHAUSTED: see the module; BAD_FRAME (the evaluator's fault): not an answer of the plan.
        """
        if not self.openings_left:
            what = f"the key has opened {self.owner.answers_opened} answers, as many as it may"
            raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, what, remedy="Make a new key: `confide infer keygen`.")
        values = self.owner.open_answer(self.plan, answer, num_rows)
        self.keep(self.owner)
        return values


def make_key(published: PublishedModel, lane: str, plan: EncryptedPlan, *, now: datetime, name: str = "") -> QueryKey:
    """Makes a key for one lane of a published model; it lives in this process alone until it is stored.

    Args:
        published: the model.
        lane: of which of its plans.
        plan: that plan.
        now: the time, UTC.
        name: of the file that it will stand in.
    """
    engine = Engine(plan.parameters)
    owner = KeyOwner(engine, engine.make_secret_key(), secrets.token_bytes)
    created = now.replace(microsecond=0)
    return QueryKey(
        name=name,
        published=published.digest,
        lane=lane,
        plan=plan,
        owner=owner,
        message=owner.evaluation_keys(plan),
        created=created,
        expires=min(created + timedelta(seconds=published.key_lifetime_s), published.expires),
    )
