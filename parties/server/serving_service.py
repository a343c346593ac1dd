"""ServingService: a researcher's queries to a warm model.

A query is bound to who asks: TLS has authenticated the caller, and only the researcher who signed the serving's job may ask, see
or end it. To everybody else it does not exist.
"""

from __future__ import annotations

from governance.commitments import NONCE_BYTES
from parties.server.access import caller
from parties.server.board import Status
from parties.server.desk import Answer, Desk, Desks, Query
from parties.server.party import Party
from parties.server.sessions import Sessions
from parties.wire import methods
from parties.wire.generated.confide.v1 import serving_pb2
from parties.wire.methods import Handlers
from protocols.errors import ConfideError, ErrorCode
from protocols.session.endings import Ending


class ServingService:
    """ServingService: what queriers ask of warm models."""

    def __init__(self, party: Party, sessions: Sessions, desks: Desks) -> None:
        self._party = party
        self._sessions = sessions
        self._desks = desks

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.LIST_SERVINGS.unary_handler(self.list_servings),
                methods.ASK.unary_handler(self.ask),
                methods.STOP_SERVING.unary_handler(self.stop_serving),
            )
        )

    def list_servings(self, _request: serving_pb2.ListServingsRequest) -> serving_pb2.ListServingsReply:
        """Tells the caller's servings that are open here."""
        who = caller().id
        standings = [desk.standing() for desk in self._desks.all() if desk.job.querier == who and not desk.is_closed]
        shown = [
            serving_pb2.Serving(
                job=standing.job.to_bytes(),
                warm=standing.warm,
                queries_left=standing.queries_left,
                rows_left=standing.rows_left,
                until="" if standing.until is None else standing.until.isoformat(),
            )
            for standing in standings
        ]
        return serving_pb2.ListServingsReply(party=self._party.id, servings=shown)

    def ask(self, request: serving_pb2.AskRequest) -> serving_pb2.AskReply:
        """Answers one query with this party's share of the answer."""
        desk = self._desk(request.job_id)
        if self._party.id not in desk.job.computing_parties:
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"{self._party.id} computes nothing in this serving; ask the others")
        found = desk.ask(Query(request.query, request.num_rows, request.commitment, request.share))
        return _reply(self._party.id, found)

    def stop_serving(self, request: serving_pb2.StopServingRequest) -> serving_pb2.StopServingReply:
        """Asks for the end of a serving."""
        self._desk(request.job_id).stop()
        return serving_pb2.StopServingReply()

    def _desk(self, job_id: str) -> Desk:
        desk = self._desks.find(job_id)
        if desk is not None and desk.job.querier == caller().id:
            return desk
        if desk is None and self._sessions.knows(job_id):
            status = self._sessions.status(job_id)
            if status.job.querier == caller().id and status.job.serving is not None:
                raise _not_warm(status)
        raise ConfideError(ErrorCode.UNKNOWN_JOB, f"no serving {job_id[:32]} is known here")  # not even that it exists


def _not_warm(status: Status) -> ConfideError:
    what, party, remedy = f"the model is not warm: the serving is {status.state.value}", "", ""
    if status.ending is not None:
        ending = Ending.from_document(status.ending.document)
        what += f"; {ending.code}: {ending.cause}" if ending.code else ""
        party, remedy = ending.at_fault, ending.remedy
    return ConfideError(ErrorCode.NOT_READY, what, remedy=remedy or "Begin another serving, or submit an inference.", party=party)


def _reply(party: str, answer: Answer) -> serving_pb2.AskReply:
    if len(answer.nonce) != NONCE_BYTES:
        raise ConfideError(ErrorCode.INTERNAL, "the worker gave no nonce with its answer")
    commitments = [
        serving_pb2.AnswerCommitment(party=computing, commitment=text) for computing, text in answer.commitments.items()
    ]
    return serving_pb2.AskReply(
        party=party,
        share=answer.share,
        shape=answer.shape,
        scale_bits=answer.scale_bits,
        nonce=answer.nonce,
        commitments=commitments,
    )
