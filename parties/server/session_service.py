"""SessionService: what the other participants say."""

from __future__ import annotations

from collections.abc import Callable

from governance.documents import DocumentKind, verify
from parties.server.acceptance import check_consent
from parties.server.access import caller
from parties.server.intake import CheckedJob, read_papers
from parties.server.party import Party
from parties.server.sessions import Sessions
from parties.wire import methods
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import session_pb2
from parties.wire.methods import Handlers
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.messages import Countersignature, SessionMessage
from protocols.session.states import State


class SessionService:
    """SessionService: what the other participants say."""

    def __init__(self, party: Party, sessions: Sessions, check: Callable[[Job], CheckedJob]) -> None:
        self._party = party
        self._sessions = sessions
        self._check = check

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict((methods.DELIVER.unary_handler(self.deliver),))

    def deliver(self, request: session_pb2.DeliverRequest) -> session_pb2.DeliverReply:
        """Takes one control message in."""
        signed, sender = from_wire(request.message), caller().id
        key = self._party.directory.signing_key(sender)
        message = SessionMessage.from_document(verify(signed, kind=DocumentKind.SESSION_MESSAGE, signer=sender, key=key))
        if message.sender != sender:
            raise ConfideError(ErrorCode.BAD_SIGNATURE, "the sender of a session message is not its signer", party=sender)
        if request.HasField("job") and not self._sessions.knows(message.session):
            self._adopt(request)
        self._sessions.deliver(message, signed if self._may_be_kept(message) else None)
        return session_pb2.DeliverReply()

    def _may_be_kept(self, message: SessionMessage) -> bool:
        """Returns whether a message is a countersignature whose consent its sender's witnesses can be held to.

        One without such a proof ends the job here, if it would have counted, and is never kept: what a job rests on is read
        from the manifests that are. What has been kept before is not checked again: the proof was fresh then.

        Raises:
            ConfideError: NOT_LOGGED (the sender's fault); UNKNOWN_SESSION: the job is still on its way here. It is said here and
                not when the message is fed: if the job came in between, the countersignature would count and not be kept.
        """
        if not isinstance(message.body, Countersignature):
            return False
        if not self._sessions.knows(message.session):
            raise ConfideError(ErrorCode.UNKNOWN_SESSION, f"session {message.session[:32]} is not known here")
        status = self._sessions.status(message.session)
        if message.sender in status.countersigned_by:
            return True
        if status.state.is_terminal:
            return False
        try:
            check_consent(self._party, status.job, message)
        except ConfideError as error:
            if status.state is not State.PROPOSED:
                return False
            if message.sender in status.job.participants:
                self._sessions.refuse(message.session, error)
            raise
        return True

    def _adopt(self, request: session_pb2.DeliverRequest) -> None:
        job, papers = read_papers(self._party, request.job, request.initial_weights)
        if job.query_rows is not None and self._party.id in job.computing_parties:
            return  # the samples' share comes from the querier alone; until then this party does not know the session
        try:
            checked: CheckedJob | ConfideError = self._check(job)
        except ConfideError as error:
            checked = error
        self._sessions.propose(job, papers, query_share=None, checked=checked)
