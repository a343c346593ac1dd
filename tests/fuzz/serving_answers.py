"""Targets of warm serving: what a party takes as a query, and what a client takes as an answer and as a listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from google.protobuf.message import DecodeError

from governance.commitments import CommittedShare, commitment_of
from parties.client.warm import open_answer, read_serving
from parties.server.desk import Desk, Query
from parties.wire.generated.confide.v1 import serving_pb2
from parties.worker.channel import Parcel
from protocols.commitments import answer_name
from protocols.errors import ConfideError
from tests.fuzz.target import Target
from tests.support.jobs import a_serving, a_training

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
QUERY, ROWS = "5a" * 16, 2
_JOB = a_serving()
_NONCE = bytes(range(32))
_SHARES = {"hospital-a": np.array([7, -3], "<i8"), "hospital-b": np.array([-7, 4], "<i8")}
_PLAN = cast(Any, SimpleNamespace(outputs=(SimpleNamespace(scale_bits=0),)))


def _commitments() -> dict[str, str]:
    name = answer_name(_JOB.outputs[0].name, QUERY)
    return {
        party: commitment_of(CommittedShare(_JOB.job_id, 1, name, party, (ROWS,), 0, share.tobytes(), _NONCE))
        for party, share in _SHARES.items()
    }


def a_reply(party: str) -> serving_pb2.AskReply:
    """A sound reply to the query."""
    listed = [serving_pb2.AnswerCommitment(party=each, commitment=text) for each, text in _commitments().items()]
    share = _SHARES[party].tobytes()
    return serving_pb2.AskReply(party=party, share=share, shape=[ROWS], scale_bits=0, nonce=_NONCE, commitments=listed)


def opened(reply: serving_pb2.AskReply) -> object:
    """Opens the answer of which one party says this and the other the truth."""
    replies = {"hospital-a": reply, "hospital-b": a_reply("hospital-b")}
    return open_answer(_JOB, QUERY, num_rows=ROWS, replies=replies)


def _read_reply(data: bytes) -> object:
    return opened(serving_pb2.AskReply.FromString(data))


def _requests() -> Sequence[bytes]:
    request = serving_pb2.AskRequest(
        job_id=_JOB.job_id, query=QUERY, num_rows=ROWS, commitment="cd" * 32, share=bytes(8 * 3 * ROWS)
    )
    return [request.SerializeToString()]


def _ask(data: bytes) -> object:
    """Asks a desk whose worker answers everything at once."""
    request = serving_pb2.AskRequest.FromString(data)
    kept: Future[None] = Future()
    kept.set_result(None)
    party = cast(Any, SimpleNamespace(id="hospital-a", now=lambda: NOW))
    desk = Desk(party, _JOB, _PLAN, cast(Any, SimpleNamespace(keep=lambda *_: kept)))

    def answer(header: Mapping[str, object], _blobs: Mapping[str, bytes]) -> None:
        said = {"event": "answer", "query": header["query"], "shape": [ROWS], "commitments": _commitments()}
        desk.heard(Parcel(said, {"output": bytes(16), "nonce": _NONCE}))

    desk.connect(answer)
    desk.heard(Parcel({"event": "serving"}))
    return desk.ask(Query(request.query, request.num_rows, request.commitment, request.share))


def _listings() -> Sequence[bytes]:
    shown = [
        serving_pb2.Serving(job=_JOB.to_bytes(), warm=True, queries_left=3, rows_left=9, until="2026-03-01T12:00:00+00:00"),
        serving_pb2.Serving(job=_JOB.to_bytes()),
    ]
    return [each.SerializeToString() for each in shown]


def _read_listing(data: bytes) -> object:
    return read_serving(serving_pb2.Serving.FromString(data), party="hospital-a", querier=a_training().querier)


_DECLARED = (ConfideError, DecodeError)
TARGETS = (
    Target("serving-answer", _read_reply, lambda: [a_reply("hospital-a").SerializeToString()], _DECLARED),
    Target("serving-query", _ask, _requests, _DECLARED),
    Target("serving-listing", _read_listing, _listings, _DECLARED),
)
