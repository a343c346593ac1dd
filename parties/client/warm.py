"""A client's queries to models that a serving keeps warm: shares go to all computing parties at once, answers come back together.

In this order, so that nobody chooses its share after having seen another's (docs/serving.md):

1. The samples are shared; every computing party gets one share, with the query's id and the commitment to the samples.
2. Every computing party answers with its share, with its nonce, and with what all computing parties committed to before any share
   left. All show one set of commitments, and each share is the one that its party committed to. Else nothing is combined.
3. The shares are combined, here and nowhere else.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from governance.commitments import CommittedShare, check_opening, one_set
from parties.client.answer_request import colluders
from parties.client.everybody import tell_anybody
from parties.wire import methods
from parties.wire.generated.confide.v1 import serving_pb2
from privacy.preparation.query_commitment import SALT_BYTES, commit_query
from privacy.preparation.schema import TableSchema
from protocols.commitments import answer_name, bound_query
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, Output
from protocols.mpc.query import combine_output, share_query
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.secrets import SecretBytes

if TYPE_CHECKING:
    from parties.client.calls import Calls, Values

ASK_TIMEOUT_S = 70.0  # above the time that a party waits for its worker
LIST_TIMEOUT_S = 5.0
MAX_SHARE_BYTES = (4 << 20) - (64 << 10)  # of one query; larger ones are cut
_MOST_SCALE_BITS = 52
_EXPLAINED_WITHIN_S = 1.0
Reply = TypeVar("Reply", bound=Message)
_SALT_TAG = b"confide.serving-salt/1\x00"
# Failures that say that this serving answers no more, whatever is asked.
OVER = frozenset({ErrorCode.NOT_READY, ErrorCode.UNKNOWN_JOB, ErrorCode.QUOTA_EXHAUSTED})


@dataclass(frozen=True)
class WarmAt:
    """How a serving stands at one party, by its word.

    Attributes:
        party: id.
        warm: whether it takes queries now.
        queries_left: of the quota, at this party.
        rows_left: likewise.
        until: when it ends at the latest, UTC; None before it is warm.
    """

    party: str
    warm: bool
    queries_left: int
    rows_left: int
    until: datetime | None


@dataclass(frozen=True)
class ServingState:
    """A serving of the caller as the parties that were asked show it."""

    job: Job = field(repr=False)
    at: tuple[WarmAt, ...]

    @property
    def is_warm(self) -> bool:
        """Whether every computing party takes queries."""
        return {each.party for each in self.at if each.warm} >= set(self.job.computing_parties)

    @property
    def queries_left(self) -> int:
        """Queries that every computing party would still answer; 0 if one of them does not list it."""
        left = {each.party: each.queries_left for each in self.at}
        return min((left.get(party, 0) for party in self.job.computing_parties), default=0)

    @property
    def rows_left(self) -> int:
        """Rows that every computing party would still answer; 0 if one of them does not list it."""
        left = {each.party: each.rows_left if each.queries_left else 0 for each in self.at}
        return min((left.get(party, 0) for party in self.job.computing_parties), default=0)


class Servings:
    """One researcher's servings; safe to use from several threads."""

    def __init__(self, calls: Calls) -> None:
        """Takes her connections, which are kept open between queries."""
        self._calls = calls
        self._lock = Lock()
        self._warm: dict[str, Job] = {}
        self._salts: dict[str, bytes] = {}
        self._schemas: dict[str, TableSchema] = {}

    def listed(self, parties: Sequence[str]) -> list[ServingState]:
        """Returns her servings as these parties show them, the latest first; a party that cannot be asked shows none.

        Raises:
            ConfideError: BAD_FRAME (the fault of the party named): it shows a serving that is not hers, or none.
        """
        request = serving_pb2.ListServingsRequest()
        jobs: dict[str, Job] = {}
        found: dict[str, list[WarmAt]] = {}
        for party, reply in self._answers(parties, request):
            for shown in reply.servings:
                job, at = read_serving(shown, party=party, querier=self._calls.researcher)
                jobs[job.job_id] = job
                found.setdefault(job.job_id, []).append(at)
        states = [ServingState(jobs[job_id], tuple(at)) for job_id, at in found.items()]
        return sorted(states, key=lambda state: (state.job.created, state.job.job_id), reverse=True)

    def find(self, model: str, output: Output, *, num_rows: int) -> Job | None:
        """Returns a warm serving of a model that opens just this output, or None.

        Args:
            model: `name@version`.
            output: kind and constraint; its name does not matter.
            num_rows: how many rows are to be asked about.
        """
        with self._lock:
            known = [job for job in self._warm.values() if _serves(job, model, output)]
        if known:
            return known[0]
        for state in self.listed([party.id for party in self._calls.directory.parties]):
            if _serves(state.job, model, output) and state.is_warm and state.rows_left >= num_rows:
                self.remember(state.job)
                return state.job
        return None

    def remember(self, job: Job) -> None:
        """Notes that a serving is warm."""
        with self._lock:
            self._warm[job.job_id] = job

    def forget(self, job: Job) -> None:
        """Notes that a serving answers no more."""
        with self._lock:
            self._warm.pop(job.job_id, None)

    def ask(self, job: Job, features: NDArray[np.float64]) -> Values:
        """Has a warm model predict; samples that are too many for one query go in several.

        Args:
            job: the serving.
            features: (rows, features) float64 scaled to [-1, 1], secret.

        Returns:
            What the serving opens, one a row; see `combine_output`.

        Learns: the caller alone the answer; each computing party one share of the samples, uniform alone, and their number.

        Raises:
            ConfideError: NOT_READY, QUOTA_EXHAUSTED, PARTY_BUSY: it answers no more, or not now; JOB_FAILED: no more after it has
                answered the first of several queries, which are spent; COMMITMENT_DIFFERS or BAD_FRAME
                (the fault of the party named): shares that are not what it committed to, or do not fit; a party's failure.
        """
        most = max(1, MAX_SHARE_BYTES // (8 * features.shape[1]))
        parts: list[NDArray[Any]] = []
        try:
            if len(features) > most:
                self._check_room(job, queries=-(-len(features) // most), rows=len(features))
            parts += (self._ask(job, features[start : start + most]) for start in range(0, len(features), most))
        except ConfideError as error:
            self.forget(job)  # whatever it was: how it stands is asked of the parties anew
            if parts and error.code in OVER:  # nobody asks again by himself: the first rows would be answered and spent twice
                answered = sum(len(part) for part in parts)
                what = f"the first {answered} of {len(features)} rows are answered and spent, the others are not: {error.what}"
                raise ConfideError(
                    ErrorCode.JOB_FAILED, what, remedy="Ask again only if the budget may be spent again."
                ) from error
            raise
        return np.concatenate(parts)

    def _check_room(self, job: Job, *, queries: int, rows: int) -> None:
        """Checks that all parts of what is cut can be answered: a part of an answer would be spent for nothing."""
        states = (state for state in self.listed(job.computing_parties) if state.job == job)
        state = next(states, ServingState(job, ()))
        if not state.is_warm:
            raise ConfideError(ErrorCode.NOT_READY, "the serving is not warm at every computing party")
        if state.rows_left < rows or state.queries_left < queries:
            what = f"{queries} queries of {rows} rows; {state.queries_left} queries and {state.rows_left} rows are left"
            raise ConfideError(ErrorCode.QUOTA_EXHAUSTED, what)

    def schema(self, job: Job) -> TableSchema:
        """Returns the contract of a serving's samples."""
        with self._lock:
            if job.job_id not in self._schemas:
                self._schemas[job.job_id] = TableSchema.from_document(job.schema)
            return self._schemas[job.job_id]

    def stop(self, job: Job) -> None:
        """Asks for the end of a serving, at the first computing party that answers; queries under way are answered first.

        Raises:
            ConfideError: UNKNOWN_JOB or NOT_READY: it is over already; or no party can be asked.
        """
        self.forget(job)
        request = serving_pb2.StopServingRequest(job_id=job.job_id)
        tell_anybody(
            job.computing_parties,
            lambda party: methods.STOP_SERVING.call(self._calls.channel(party), request, party=party, timeout_s=LIST_TIMEOUT_S),
        )

    def query_salt(self, job: Job, query: str) -> bytes:
        """Returns the salt of the commitment to a query's samples, secret: with the samples it opens the commitment.

        It follows from the serving's own salt, which is kept with the job, and the query's id, which the parties' logs show.
        """
        with self._lock:
            if job.job_id not in self._salts:
                self._salts[job.job_id] = self._kept_salt(job)
            secret = self._salts[job.job_id]
        return hmac.digest(secret, _SALT_TAG + query.encode(), "sha256")

    def _kept_salt(self, job: Job) -> bytes:
        try:
            return self._calls.records.query_salt(job.job_id)
        except ConfideError as error:
            if error.code is not ErrorCode.UNKNOWN_JOB:
                raise
            return secrets.token_bytes(SALT_BYTES)  # begun from another folder: what opens its commitments is there

    def _ask(self, job: Job, features: NDArray[np.float64]) -> Values:
        parties, query = job.computing_parties, secrets.token_hex(16)
        commitment = commit_query(features, salt=self.query_salt(job, query))
        source = AesCtrStream(SecretBytes(secrets.token_bytes(KEY_BYTES)))
        shares = share_query(features, num_parties=len(parties), source=source)
        waits: list[methods.Begun[serving_pb2.AskReply]] = []
        for party, share in zip(parties, shares, strict=True):
            request = serving_pb2.AskRequest(
                job_id=job.job_id,
                query=query,
                num_rows=len(features),
                commitment=commitment,
                share=np.ascontiguousarray(share, "<i8").tobytes(),
            )
            waits.append(methods.ASK.begin(self._calls.channel(party), request, party=party, timeout_s=ASK_TIMEOUT_S))
        return open_answer(job, bound_query(query, commitment), num_rows=len(features), replies=all_replies(waits))

    def _answers(
        self, parties: Sequence[str], request: serving_pb2.ListServingsRequest
    ) -> Iterable[tuple[str, serving_pb2.ListServingsReply]]:
        waits = []
        for party in parties:
            try:
                channel = self._calls.channel(party)
            except ConfideError:  # its certificate has ended: it serves nobody
                continue
            waits.append((party, methods.LIST_SERVINGS.begin(channel, request, party=party, timeout_s=LIST_TIMEOUT_S)))
        for party, begun in waits:
            try:
                yield party, begun.reply()
            except ConfideError:
                continue


def all_replies(begun: Sequence[methods.Begun[Reply]]) -> dict[str, Reply]:
    """Waits for the replies of all parties, and no longer than for the first that fails: without it there is no answer.

    Raises:
        ConfideError: that party's failure, which names it; the other calls are given up.
    """
    done: SimpleQueue[methods.Begun[Reply]] = SimpleQueue()
    for each in begun:
        each.when_done(done.put)
    replies: dict[str, Reply] = {}
    try:
        for _ in begun:
            first = done.get()
            try:
                replies[first.party] = first.reply()
            except ConfideError as error:
                clearer = _clearer(error, done, others=len(begun) - len(replies) - 1)
                if clearer is error:
                    raise
                raise clearer from error
    finally:
        if len(replies) < len(begun):
            for each in begun:
                each.cancel()
    return {each.party: replies[each.party] for each in begun}


def _clearer(error: ConfideError, done: SimpleQueue[methods.Begun[Reply]], *, others: int) -> ConfideError:
    """Returns why a query fails: of a serving that is over at one party, that another party is gone, if so; it shows at once."""
    deadline = time.monotonic() + _EXPLAINED_WITHIN_S
    for _ in range(others if error.code is ErrorCode.NOT_READY else 0):
        try:
            done.get(timeout=max(0.0, deadline - time.monotonic())).reply()
        except Empty:
            break
        except ConfideError as other:
            if other.code is ErrorCode.PARTY_UNREACHABLE:
                return other
    return error


def open_answer(
    job: Job, query: str, *, num_rows: int, replies: Mapping[str, serving_pb2.AskReply]
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Checks the computing parties' shares of an answer against their commitments and combines them.

    Args:
        job: the serving.
        query: the name that binds its id and the commitment to its samples, see `bound_query`.
        num_rows: how many rows were asked about.
        replies: what each computing party handed out; secret.

    Raises:
        ConfideError: COMMITMENT_DIFFERS (the fault of the party named, or of one that is not provable): not one set of
            commitments, or another share than its party committed to; BAD_FRAME: shares that do not fit the query or each other.
    """
    output = job.outputs[0]
    name = answer_name(output.name, query)
    shown = {party: {each.party: {name: each.commitment} for each in reply.commitments} for party, reply in replies.items()}
    commitments = one_set(shown, outputs=frozenset({name}))
    first = replies[job.computing_parties[0]]
    shares = []
    for party in job.computing_parties:
        reply = replies[party]
        opened = CommittedShare(
            session=job.job_id,
            attempt=job.attempt,
            output=name,
            party=party,
            shape=tuple(reply.shape),
            scale_bits=reply.scale_bits,
            share=reply.share,
            nonce=reply.nonce,
        )
        check_opening(opened, commitments[party][name])
        if (reply.shape, reply.scale_bits) != (first.shape, first.scale_bits) or list(reply.shape[:1]) != [num_rows]:
            raise ConfideError(ErrorCode.BAD_FRAME, "the parties' shares of an answer do not fit together", party=party)
        if len(reply.share) != 8 * math.prod(reply.shape) or reply.scale_bits > _MOST_SCALE_BITS:
            raise ConfideError(ErrorCode.BAD_FRAME, "a share has not the size of its shape, or no scale", party=party)
        shares.append(np.frombuffer(reply.share, "<i8").astype(np.int64).reshape(tuple(reply.shape)))
    return combine_output(shares, output=output, scale_bits=first.scale_bits)


def read_serving(shown: serving_pb2.Serving, *, party: str, querier: str) -> tuple[Job, WarmAt]:
    """Reads what a party shows of a serving.

    Raises:
        ConfideError: BAD_FRAME (the fault of the party named): it is no serving of the querier.
    """
    try:
        job = Job.from_bytes(shown.job)
        until = datetime.fromisoformat(shown.until) if shown.until else None
    except (ConfideError, ValueError) as error:
        raise ConfideError(ErrorCode.BAD_FRAME, f"{party} shows a serving that is none", party=party) from error
    if job.serving is None or job.querier != querier:
        raise ConfideError(ErrorCode.BAD_FRAME, f"{party} shows a serving that is not {querier}'s", party=party)
    return job, WarmAt(party, shown.warm, shown.queries_left, shown.rows_left, until)


def _serves(job: Job, model: str, output: Output) -> bool:
    opened = job.outputs[0]
    is_model = job.model_ref is not None and job.model_ref.label == model
    if output.noise_colluders == 0 and Decimal(output.noise):  # not said, and then all but one, as in a request
        output = replace(output, noise_colluders=colluders(output.noise, None, computing=len(job.computing_parties)))
    return is_model and _constraint(opened) == _constraint(output)


def _constraint(output: Output) -> tuple[object, ...]:
    """What is opened of a prediction: a serving that adds noise, or leaves samples out, answers no question without that."""
    decimals = map(Decimal, (output.clip, output.noise, output.abstain_below, output.abstain_beyond))
    return (output.kind, output.top_k, output.decimals, output.noise_colluders, *decimals)
