"""Documents of encrypted inference: a published model, a grant for it, an enquiry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from governance.encrypted.enquiry import Enquiry
from governance.encrypted.grant import EncryptedGrant
from governance.encrypted.published import PublishedModel
from tests.support.consent import NOW, an_agreement

DAY = timedelta(days=1)
AGREEMENT = an_agreement()


def a_model(**changes: Any) -> PublishedModel:
    model = PublishedModel(
        consortium="cardio",
        issuer="hospital-a",
        name="diagnosis",
        commitment="c" * 64,
        plans={"latency": {"lane": "latency"}, "batch": {"lane": "batch"}},
        features=("age", "pulse"),
        ranges=(),
        outputs=("benign", "malignant"),
        client_activation="softmax",
        decimals=3,
        known_after=0,
        key_lifetime_s=3600,
        valid_from=NOW - DAY,
        expires=NOW + DAY,
    )
    return replace(model, **changes)


def a_permission(of: PublishedModel, **changes: Any) -> EncryptedGrant:
    grant = EncryptedGrant(
        consortium="cardio",
        issuer="hospital-a",
        agreement=AGREEMENT.digest,
        model=of.name,
        version=of.ref.version,
        purposes=("prognosis",),
        recipients=("alice",),
        max_answers=1000,
        max_answers_per_key=500,
        max_requests_per_hour=60,
        counts_as_known=False,
        valid_from=NOW - DAY,
        expires=NOW + DAY,
        nonce="0" * 32,
    )
    return replace(grant, **changes)


def an_enquiry(of: PublishedModel, **changes: Any) -> Enquiry:
    enquiry = Enquiry(
        consortium="cardio",
        directory_version=1,
        agreement=AGREEMENT.digest,
        purpose="prognosis",
        querier="alice",
        evaluator="hospital-a",
        model=of.name,
        version=of.ref.version,
        published=of.digest,
        lane="latency",
        key="e" * 64,
        max_answers=100,
        created=NOW,
        expires=NOW + timedelta(hours=1),
        nonce="1" * 32,
    )
    return replace(enquiry, **changes)
