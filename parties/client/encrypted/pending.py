"""Requests whose answers are kept at the model's owner until they are fetched: submitted by one command, fetched by another.

A request that has a name may be submitted again after it was cut off, wherever that was: it is written down before anybody is
asked, the same enquiry is opened, and each query goes under the id that it had. An id serves once, so nothing is debited twice.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from parties.client.encrypted.answers import EncryptedAnswers
from parties.client.encrypted.asking import Block, activated, blocks_of, send_query, when_there_is_room
from parties.client.encrypted.enquiring import Permission, give_back, make_enquiry, open_enquiry, upload_keys
from parties.client.encrypted.evaluator import Evaluator
from parties.client.encrypted.inference import Request
from parties.client.encrypted.keys import QueryKey
from parties.client.encrypted.methods import ANSWERS, KEYS, Tell, quietly
from parties.client.encrypted.pending_files import Pending, PendingRequests
from protocols.ckks.wire import WireShape
from protocols.errors import ConfideError, ErrorCode, Kind

if TYPE_CHECKING:
    from parties.client.client import Client

_POLL_S = 0.5
MOST_KEPT = 32  # answers of one enquiry that its evaluator keeps
_SALT_BYTES = 32
_CUT_OFF = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT})


def submit_request(
    client: Client,
    evaluator: Evaluator,
    request: Request,
    permission: Permission,
    kept: PendingRequests,
    *,
    key: QueryKey,
    name: str = "",
    tell: Tell = quietly,
) -> Pending:
    """Sends all queries of a request, whose answers are kept until `fetch_request`.

    Args:
        client: the researcher's.
        evaluator: the party that owns the model.
        request: the request.
        permission: under which agreement, for which purpose; of one that is submitted again, what it said at first.
        kept: where the request is kept.
        key: an opened key file's, of the request's lane.
        name: the researcher's own for the request, so that it can be submitted again if it is cut off; empty for none.
        tell: is told of each stage how much of it is done, and of how much.

    Raises:
        ConfideError: a refusal, with all its reasons; what was not asked is then given back. JOB_CONFLICT: the name has served,
            or for other samples, another model or key. Of a request with a name, what is no refusal ends nothing: the
            connection broke, and the same may be submitted again.
    """
    blocks = blocks_of(request.rows, key.plan.samples)
    if len(blocks) > MOST_KEPT:
        what = f"{len(blocks)} queries are needed in the lane {key.lane}; {MOST_KEPT} answers of an enquiry are kept"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Use a lane of more samples, several requests, or `run`.")
    earlier = kept.named(name) if name else None
    if earlier is None:
        pending = _new(client, request, permission, key, blocks)
        kept.add(pending, name=name)
    else:
        pending = _again(earlier, request, key, name)
    enquiry_id = pending.enquiry.enquiry_id
    try:
        state = open_enquiry(client, evaluator, pending.enquiry)
        upload_keys(evaluator, state, key, sent=lambda sent, total: tell(KEYS, sent, total))
        for number, (block, (request_id, _)) in enumerate(zip(blocks, pending.requests, strict=True), start=1):
            _ask_and_keep(evaluator, enquiry_id, request_id, key.encrypt(block.rows), is_again=earlier is not None)
            tell("queries", number, len(blocks))
    except BaseException as error:
        if earlier is None and (_is_refusal(error) or not name):
            give_back(evaluator, enquiry_id)
            kept.remove(enquiry_id, name=name)
        raise
    return pending


def _new(client: Client, request: Request, permission: Permission, key: QueryKey, blocks: list[Block]) -> Pending:
    enquiry = make_enquiry(client, request.model, key, requests=len(blocks), permission=permission, now=datetime.now(UTC))
    ids = tuple((block.request, len(block.rows)) for block in blocks)
    salt = secrets.token_hex(_SALT_BYTES)
    samples = _samples_digest(salt, request.rows)
    return Pending(enquiry, request.model, key.name, request.choice.in_words(), salt, samples, ids)


def _again(earlier: Pending, request: Request, key: QueryKey, name: str) -> Pending:
    """Returns an earlier request if this is the same one."""
    is_same = hmac.compare_digest(earlier.samples, _samples_digest(earlier.salt, request.rows))
    if not is_same or (earlier.enquiry.published, earlier.enquiry.key) != (request.model.published.digest, key.digest):
        what = f"the id {name} stands for a request of other samples, another model or another key"
        raise ConfideError(ErrorCode.JOB_CONFLICT, what, remedy="Choose another id.")
    return earlier


def _is_refusal(error: BaseException) -> bool:
    """Returns whether a failure is an answer to the request; everything else cut it off."""
    return isinstance(error, ConfideError) and error.code.kind not in _CUT_OFF and error.code is not ErrorCode.PARTY_BUSY


def _samples_digest(salt: str, rows: NDArray[np.float64]) -> str:
    return hashlib.sha256(salt.encode() + repr(rows.shape).encode() + np.ascontiguousarray(rows).tobytes()).hexdigest()


def fetch_request(
    evaluator: Evaluator, pending: Pending, kept: PendingRequests, *, key: QueryKey, timeout_s: float, tell: Tell = quietly
) -> EncryptedAnswers:
    """Fetches and opens all answers of a submitted request; the request stays kept until `PendingRequests.remove`.

    Args:
        evaluator: the party that owns the model.
        pending: the request.
        kept: where it is kept.
        key: the opened key that it was encrypted under.
        timeout_s: how long to wait for an answer that is being computed.
        tell: is told how many answers have arrived.

    Raises:
        ConfideError: NOT_READY: not computed in time, try again; INVALID_ARGUMENT: another key; BAD_FRAME (the evaluator's
            fault): not an answer of the plan; or the evaluator's failure.
    """
    enquiry = pending.enquiry
    if key.digest != enquiry.key:
        what = f"the request was encrypted under the key {pending.key}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Open that one.")
    size, deadline = WireShape.of(key.plan).answer_bytes, time.monotonic() + timeout_s
    answers: list[bytes] = []
    for number, (request, _) in enumerate(pending.requests, start=1):
        answer = kept.answer(enquiry.enquiry_id, request)
        if answer is None:
            answer = _fetched(evaluator, enquiry.enquiry_id, request, size=size, deadline=deadline)
            kept.keep_answer(enquiry.enquiry_id, request, answer)
        answers.append(answer)
        tell(ANSWERS, number, len(pending.requests))
    give_back(evaluator, enquiry.enquiry_id)
    parts = [key.open(answer, rows) for answer, (_, rows) in zip(answers, pending.requests, strict=True)]
    published = pending.model.published
    return EncryptedAnswers(
        model=pending.model.label,
        lane=enquiry.lane,
        why=pending.why,
        enquiries=(enquiry.enquiry_id,),
        requests=len(answers),
        numbers=enquiry.max_answers,
        outputs=published.outputs,
        values=activated(published, np.concatenate(parts)),
    )


def _ask_and_keep(evaluator: Evaluator, enquiry_id: str, request: str, message: bytes, *, is_again: bool) -> None:
    def once() -> None:
        evaluator.ask_and_keep(enquiry_id, request, send_query(evaluator, enquiry_id, message))

    try:
        when_there_is_room(once)
    except ConfideError as error:
        # It was asked before the request was cut off: it is under way, or its answer or failure waits to be fetched.
        if not is_again or error.code is not ErrorCode.JOB_CONFLICT:
            raise


def _fetched(evaluator: Evaluator, enquiry_id: str, request: str, *, size: int, deadline: float) -> bytes:
    while True:
        try:
            return evaluator.fetch(enquiry_id, request, answer_bytes=size)
        except ConfideError as error:
            if error.code is not ErrorCode.NOT_READY or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)
