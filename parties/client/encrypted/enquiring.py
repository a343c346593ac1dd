"""The enquiry that a request begins with: signed by the researcher, decided by the model's owner, given back at its end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from governance.encrypted.enquiry import MAX_LIFETIME, Enquiry
from governance.encrypted.grant import MAX_ANSWERS
from parties.client.agreements import agreement_at
from parties.client.encrypted.asking import when_there_is_room
from parties.client.encrypted.evaluator import EnquiryState, Evaluator
from parties.client.encrypted.keys import QueryKey
from parties.client.encrypted.published import EncryptedModel
from parties.client.encrypted.uploading import Sent, nothing, upload
from protocols.errors import ConfideError, ErrorCode
from protocols.job import JobType

if TYPE_CHECKING:
    from parties.client.client import Client

LIFETIME = timedelta(hours=1)


class NotEnoughLeft(ConfideError):
    """An enquiry is for more numbers than are left, as the model's owner says; nothing was debited for it."""


@dataclass(frozen=True)
class Permission:
    """Under which agreement and for which purpose a model is asked; both None if the client is to find them."""

    agreement: str | None = None
    purpose: str | None = None


def make_enquiry(
    client: Client,
    model: EncryptedModel,
    key: QueryKey,
    *,
    requests: int,
    permission: Permission,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> Enquiry:
    """Returns the enquiry for a number of queries; nothing is sent but the question for agreements.

    Args:
        client: the researcher's connections.
        model: whom it is about.
        key: under which queries will be encrypted.
        requests: how many queries.
        permission: as the researcher says.
        now: the time, UTC.
        lifetime: a day at most; the model's and the key's end come first.

    Raises:
        ConfideError: NO_AGREEMENT, INVALID_ARGUMENT (the researcher's to mend), JOB_EXPIRED or BUDGET_EXHAUSTED: the key's.
    """
    key.require(requests=requests, now=now)
    numbers = requests * key.plan.numbers_per_answer
    if numbers > MAX_ANSWERS:
        what = f"{requests} queries can tell {numbers:,} numbers; an enquiry is for {MAX_ANSWERS:,} at most"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Ask about fewer samples at once.")
    party = model.published.issuer
    agreement, purpose = agreement_at(
        client, party, JobType.INFER_ENCRYPTED, agreement=permission.agreement, purpose=permission.purpose, now=now
    )
    created = now.replace(microsecond=0)
    return Enquiry(
        consortium=client.directory.consortium,
        directory_version=client.directory.version,
        agreement=agreement,
        purpose=purpose,
        querier=client.researcher,
        evaluator=party,
        model=model.published.name,
        version=model.published.ref.version,
        published=model.published.digest,
        lane=key.lane,
        key=key.digest,
        max_answers=numbers,
        created=created,
        expires=min(created + min(lifetime, MAX_LIFETIME), model.published.expires, key.expires),
        nonce=secrets.token_hex(16),
    )


def begin(client: Client, evaluator: Evaluator, enquiry: Enquiry, key: QueryKey, *, sent: Sent = nothing) -> EnquiryState:
    """Opens an enquiry and uploads what is missing of its evaluation keys; where that fails, it is given back.

    Raises:
        ConfideError: as `open_enquiry` and `upload_keys`.
    """
    state = open_enquiry(client, evaluator, enquiry)
    try:
        upload_keys(evaluator, state, key, sent=sent)
    except BaseException:
        give_back(evaluator, enquiry.enquiry_id)
        raise
    return state


def open_enquiry(client: Client, evaluator: Evaluator, enquiry: Enquiry) -> EnquiryState:
    """Opens an enquiry; one that is open changes nothing.

    Raises:
        ConfideError: a refusal with all its reasons, `NotEnoughLeft` if the first of them is a budget; NOT_READY: it has ended;
            BAD_FRAME (the evaluator's fault): it speaks of another enquiry.
    """
    try:
        state = evaluator.open(client.calls.signed_enquiry(enquiry))
    except ConfideError as error:
        if error.code is not ErrorCode.BUDGET_EXHAUSTED:
            raise
        raise NotEnoughLeft(error.code, error.what, problems=error.problems, remedy=error.remedy, party=error.party) from error
    if state.enquiry_id != enquiry.enquiry_id:
        what = f"{evaluator.party} answers about another enquiry than {enquiry.enquiry_id}"
        raise ConfideError(ErrorCode.BAD_FRAME, what, party=evaluator.party)
    if not state.open:
        what = f"the enquiry {enquiry.enquiry_id} has ended: {state.reason}"
        raise ConfideError(ErrorCode.NOT_READY, what, remedy="Ask again.", party=evaluator.party)
    return state


def upload_keys(evaluator: Evaluator, state: EnquiryState, key: QueryKey, *, sent: Sent = nothing) -> None:
    """Uploads what is missing of an open enquiry's evaluation keys.

    Raises:
        ConfideError: as `upload`; PARTY_BUSY: there was no room for them in all the time.
    """
    if state.key_bytes < len(key.message):
        when_there_is_room(lambda: upload(evaluator, state.enquiry_id, key.message, sent=sent))


@contextmanager
def enquiring(
    client: Client, evaluator: Evaluator, enquiry: Enquiry, key: QueryKey, *, sent: Sent = nothing
) -> Iterator[EnquiryState]:
    """Opens an enquiry for the length of a `with` block; however that ends, what was not answered is given back."""
    state = begin(client, evaluator, enquiry, key, sent=sent)
    try:
        yield state
    finally:
        give_back(evaluator, enquiry.enquiry_id)


def give_back(evaluator: Evaluator, enquiry_id: str) -> None:
    """Ends an enquiry; where its evaluator cannot be told, it ends by its own time."""
    with suppress(ConfideError):
        evaluator.end(enquiry_id)
