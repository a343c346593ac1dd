"""Requests whose answers are kept at the model's owner until they are fetched: submitted by one command, fetched by another.

What a researcher keeps of one, mode 0600: the enquiry, the model as it was published, and for each query its id and number of
rows. No sample and nothing that was decrypted is in it. Answers are written beside it as they arrive, encrypted as they are,
since their owner forgets them once they are sent.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from governance.encrypted.enquiry import Enquiry
from governance.encrypted.published import PublishedModel
from parties.client.encrypted.answers import EncryptedAnswers
from parties.client.encrypted.asking import activated, blocks_of, send_query, when_there_is_room
from parties.client.encrypted.enquiring import Permission, begin, give_back, make_enquiry
from parties.client.encrypted.evaluator import Evaluator
from parties.client.encrypted.inference import Request
from parties.client.encrypted.keys import QueryKey
from parties.client.encrypted.methods import ANSWERS, KEYS, Tell, quietly
from parties.client.encrypted.published import EncryptedModel
from parties.storage.files import make_folder, read_secret, write_secret
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.wire import MAX_MESSAGE_BYTES, WireShape
from protocols.errors import ConfideError, ErrorCode

if TYPE_CHECKING:
    from parties.client.client import Client

_MAX_RECORD_BYTES = 64 << 20
_POLL_S = 0.5
MOST_KEPT = 32  # answers of one enquiry that its evaluator keeps
_ID = re.compile(r"[0-9a-f]{32}")
_FIELDS = {"enquiry", "published", "key", "why", "requests"}


@dataclass(frozen=True)
class Pending:
    """A submitted request.

    Attributes:
        enquiry: what its owner decided about.
        model: as it was published then.
        key: name of the key file that opens the answers.
        why: how the lane was chosen, in words.
        requests: id and number of rows of each query, in the order of the samples.
    """

    enquiry: Enquiry
    model: EncryptedModel
    key: str
    why: str
    requests: tuple[tuple[str, int], ...]

    @property
    def num_rows(self) -> int:
        """Of all queries."""
        return sum(rows for _, rows in self.requests)


class PendingRequests:
    """The submitted requests of one researcher: a folder for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pending: Pending) -> None:
        """Keeps a request before its queries are sent."""
        make_folder(self._at(pending.enquiry.enquiry_id))
        record = {
            "enquiry": pending.enquiry.to_bytes().decode(),
            "published": pending.model.published.to_bytes().decode(),
            "key": pending.key,
            "why": pending.why,
            "requests": [list(request) for request in pending.requests],
        }
        write_secret(self._at(pending.enquiry.enquiry_id) / "request.json", json.dumps(record).encode())

    def find(self, enquiry_id: str) -> Pending:
        """Returns a request; an unambiguous beginning of its id is enough.

        Raises:
            ConfideError: UNKNOWN_JOB: none was submitted from here that begins so; STATE_DAMAGED.
        """
        found = [each for each in self.ids() if each.startswith(enquiry_id)] if enquiry_id else []
        if len(found) != 1:
            what = "several requests begin" if found else "no request that was submitted from this folder begins"
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{what} with {enquiry_id[:32]!r}")
        return self._read(self._at(found[0]) / "request.json")

    def ids(self) -> list[str]:
        """Returns the enquiries of all requests whose answers were not fetched yet."""
        return sorted(path.name for path in self.folder.glob("*") if _ID.fullmatch(path.name))

    def answer(self, enquiry_id: str, request: str) -> bytes | None:
        """Returns an answer that has arrived, encrypted as it is; None if it has not."""
        path = self._at(enquiry_id) / f"{request}.answer"
        return read_secret(path, max_bytes=MAX_MESSAGE_BYTES) if path.exists() else None

    def keep_answer(self, enquiry_id: str, request: str, answer: bytes) -> None:
        """Keeps an answer that has arrived."""
        write_secret(self._at(enquiry_id) / f"{request}.answer", answer)

    def remove(self, enquiry_id: str) -> None:
        """Forgets a request with its answers."""
        shutil.rmtree(self._at(enquiry_id))

    def _at(self, enquiry_id: str) -> Path:
        if not _ID.fullmatch(enquiry_id):
            raise ConfideError(ErrorCode.UNKNOWN_JOB, f"{enquiry_id[:32]!r} is no id of an enquiry")
        return self.folder / enquiry_id

    def _read(self, path: Path) -> Pending:
        try:
            record = json.loads(read_secret(path, max_bytes=_MAX_RECORD_BYTES))
            if not isinstance(record, dict) or set(record) != _FIELDS:
                raise ValueError("not the fields of a request")
            published = PublishedModel.from_bytes(str(record["published"]).encode())
            plans = {lane: EncryptedPlan.from_document(document) for lane, document in published.plans.items()}
            return Pending(
                enquiry=Enquiry.from_bytes(str(record["enquiry"]).encode()),
                model=EncryptedModel(published, plans),
                key=str(record["key"]),
                why=str(record["why"]),
                requests=tuple((str(request), int(rows)) for request, rows in record["requests"]),
            )
        except (ValueError, TypeError) as error:
            raise ConfideError(ErrorCode.STATE_DAMAGED, f"{path} is no record of a request") from error


def submit_request(
    client: Client,
    evaluator: Evaluator,
    request: Request,
    permission: Permission,
    kept: PendingRequests,
    *,
    key: QueryKey,
    tell: Tell = quietly,
) -> Pending:
    """Sends all queries of a request, whose answers are kept until `fetch_request`.

    Args:
        client: the researcher's.
        evaluator: the party that owns the model.
        request: the request.
        permission: under which agreement, for which purpose.
        kept: where the request is kept.
        key: an opened key file's, of the request's lane.
        tell: is told of each stage how much of it is done, and of how much.

    Raises:
        ConfideError: a refusal, with all its reasons; what was not asked is then given back.
    """
    blocks = blocks_of(request.rows, key.plan.samples)
    if len(blocks) > MOST_KEPT:
        what = f"{len(blocks)} queries are needed in the lane {key.lane}; {MOST_KEPT} answers of an enquiry are kept"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Use a lane of more samples, several requests, or `run`.")
    enquiry = make_enquiry(client, request.model, key, requests=len(blocks), permission=permission, now=datetime.now(UTC))
    begin(client, evaluator, enquiry, key, sent=lambda sent, total: tell(KEYS, sent, total))
    ids = tuple((block.request, len(block.rows)) for block in blocks)
    pending = Pending(enquiry, request.model, key.name, request.choice.in_words(), ids)
    kept.add(pending)
    try:
        for number, block in enumerate(blocks, start=1):
            _ask_and_keep(evaluator, enquiry.enquiry_id, block.request, key.encrypt(block.rows))
            tell("queries", number, len(blocks))
    except BaseException:
        give_back(evaluator, enquiry.enquiry_id)
        kept.remove(enquiry.enquiry_id)
        raise
    return pending


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


def _ask_and_keep(evaluator: Evaluator, enquiry_id: str, request: str, message: bytes) -> None:
    def once() -> None:
        evaluator.ask_and_keep(enquiry_id, request, send_query(evaluator, enquiry_id, message))

    when_there_is_room(once)


def _fetched(evaluator: Evaluator, enquiry_id: str, request: str, *, size: int, deadline: float) -> bytes:
    while True:
        try:
            return evaluator.fetch(enquiry_id, request, answer_bytes=size)
        except ConfideError as error:
            if error.code is not ErrorCode.NOT_READY or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)
