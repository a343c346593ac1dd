"""LinkingService: this party's key in pseudonym projects, and the waiting side of private intersections."""

from __future__ import annotations

import structlog

from governance.audit.entries import EntryKind, Fact
from governance.identity.names import MemberKind
from parties.linking.projects import context_of, own_key
from parties.server.access import caller
from parties.server.linking_desk import IntersectionDesk
from parties.server.party import Party
from parties.server.stream_limits import CallerLimits
from parties.storage.linking import ProjectRecord
from parties.wire import methods
from parties.wire.generated.confide.v1 import linking_pb2
from parties.wire.methods import Handlers
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.group import POINT_BYTES
from protocols.identifiers.intersection import SESSION_BYTES, Mode
from protocols.identifiers.pseudonyms import MAX_BATCH, evaluate
from protocols.job import ID_PATTERN

_MAX_OFFSET = 2**31
_AT_ONCE = {MemberKind.PARTY: 1}  # a batch holds the interpreter for tenths of a second
_log = structlog.get_logger()


class LinkingService:
    """LinkingService: see the module."""

    def __init__(self, party: Party, desk: IntersectionDesk) -> None:
        self._party = party
        self._desk = desk
        self._evaluations = CallerLimits(_AT_ONCE, what="evaluations", code=ErrorCode.PARTY_BUSY, remedy="Wait for its answer.")

    def handlers(self) -> Handlers:
        """Returns the registrations."""
        return dict(
            (
                methods.EVALUATE_PSEUDONYMS.unary_handler(self.evaluate),
                methods.OPEN_INTERSECTION.unary_handler(self.open),
                methods.PUT_PART_OF_SET.unary_handler(self.put),
                methods.GET_PART_OF_SET.unary_handler(self.get),
                methods.FINISH_INTERSECTION.unary_handler(self.finish),
                methods.BREAK_OFF_INTERSECTION.unary_handler(self.break_off),
            )
        )

    def evaluate(self, request: linking_pb2.EvaluatePseudonymsRequest) -> linking_pb2.EvaluatePseudonymsReply:
        """Raises blinded points to this party's key; counted and logged before anything is computed.

        Raises:
            ConfideError: NOT_AUTHORISED: the project is not open for the caller; INVALID_ARGUMENT: under another rotation or with
                other members; BUDGET_EXHAUSTED; BAD_FRAME (the caller's fault): no points; PARTY_BUSY: the caller's last batch is
                still being evaluated; STATE_DAMAGED (this operator's fault): the key is another than the project was opened with.
        """
        with self._evaluations.one_more(caller()):
            return self._evaluate(caller().id, request)

    def _evaluate(self, peer: str, request: linking_pb2.EvaluatePseudonymsRequest) -> linking_pb2.EvaluatePseudonymsReply:
        count = len(request.points) // POINT_BYTES
        if not 1 <= count <= MAX_BATCH:
            raise ConfideError(ErrorCode.BAD_FRAME, f"1 to {MAX_BATCH} points are expected", party=peer)
        with self._party.database.transaction() as tables:
            project = self._project(tables.linking.find_project(request.project), peer, request)
            context = context_of(self._party.directory.consortium, project)
            key = own_key(tables, self._party.config, project, context)
            left = tables.linking.count_evaluations(project, peer, count)
            facts: dict[str, Fact] = {
                "project": project.project,
                "rotation": project.rotation,
                "peer": peer,
                "count": count,
                "left": left,
                "allowed": project.evaluations,
            }
            tables.audit.append(EntryKind.PSEUDONYMS_EVALUATED, facts, now=self._party.now())
        try:
            points = evaluate(request.points, key)
        except ConfideError as error:
            if error.code is ErrorCode.BAD_FRAME:
                raise ConfideError(error.code, error.what, party=peer) from error
            raise
        _log.info("pseudonyms_evaluated", peer=peer, number=count)
        return linking_pb2.EvaluatePseudonymsReply(points=points, left=left)

    def open(self, request: linking_pb2.OpenIntersectionRequest) -> linking_pb2.OpenIntersectionReply:
        """Meets an offer; see `IntersectionDesk.open`."""
        modes = {mode.value: mode for mode in Mode}
        if request.mode not in modes or not ID_PATTERN.fullmatch(request.label):
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, "an intersection has a label, and the mode rows or size")
        meeting, schema_document = self._desk.open(
            caller().id,
            label=request.label,
            mode=modes[request.mode],
            size=request.set.size,
            schema_document=request.set.schema,
            commitment=request.set.commitment,
        )
        own = linking_pb2.SetAnnouncement(
            size=meeting.waiting.size, schema=schema_document, commitment=meeting.waiting.commitment
        )
        return linking_pb2.OpenIntersectionReply(session=meeting.session, set=own)

    def put(self, request: linking_pb2.PutPartOfSetRequest) -> linking_pb2.PutPartOfSetReply:
        """Takes a part of a list; see `IntersectionDesk`."""
        peer, session, offset = caller().id, _session(request.session), _offset(request.offset)
        match request.list:
            case linking_pb2.SET_LIST_MASKED:
                self._desk.put_masked(peer, session, offset, request.points, request.salt)
            case linking_pb2.SET_LIST_DOUBLED:
                self._desk.put_doubled(peer, session, offset, request.points)
            case _:
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, "there is no such list")
        return linking_pb2.PutPartOfSetReply()

    def get(self, request: linking_pb2.GetPartOfSetRequest) -> linking_pb2.GetPartOfSetReply:
        """Returns a part of a list; see `IntersectionDesk`."""
        peer, session, offset = caller().id, _session(request.session), _offset(request.offset)
        match request.list:
            case linking_pb2.SET_LIST_MASKED:
                points, salt = self._desk.get_masked(peer, session, offset)
                return linking_pb2.GetPartOfSetReply(points=points, salt=salt)
            case linking_pb2.SET_LIST_DOUBLED:
                points = self._desk.get_doubled(peer, session, offset, request.commitment)
                return linking_pb2.GetPartOfSetReply(points=points)
            case _:
                raise ConfideError(ErrorCode.INVALID_ARGUMENT, "there is no such list")

    def finish(self, request: linking_pb2.FinishIntersectionRequest) -> linking_pb2.FinishIntersectionReply:
        """Compares the outcomes and registers; see `IntersectionDesk.finish`."""
        session = _session(request.session)
        self._desk.finish(caller().id, session, transcript=request.transcript, found=request.found)
        return linking_pb2.FinishIntersectionReply()

    def break_off(self, request: linking_pb2.BreakOffIntersectionRequest) -> linking_pb2.BreakOffIntersectionReply:
        """Ends a run that the caller does not go on with; see `IntersectionDesk.break_off`."""
        code = ErrorCode.__members__.get(request.code, ErrorCode.PEER_LOST)
        self._desk.break_off(caller().id, _session(request.session), code)
        return linking_pb2.BreakOffIntersectionReply()

    def _project(self, project: ProjectRecord | None, peer: str, request: linking_pb2.EvaluatePseudonymsRequest) -> ProjectRecord:
        # One answer for what is unknown, closed and not meant for the caller: it learns no names of others' projects.
        if project is None or project.closed is not None or peer not in project.members or peer == self._party.id:
            what = f"{self._party.id} has not opened this project for {peer}"
            remedy = "Ask the operator there to open it with `confide dataset project open`."
            raise ConfideError(ErrorCode.NOT_AUTHORISED, what, remedy=remedy)
        if request.rotation != project.rotation or tuple(request.members) != project.members:
            what = f"{self._party.id} has the project at rotation {project.rotation}, with {', '.join(project.members)}"
            raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy="Open it alike at every institution.")
        return project


def _session(session: bytes) -> bytes:
    if len(session) != SESSION_BYTES:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"a session has an id of {SESSION_BYTES} bytes")
    return session


def _offset(offset: int) -> int:
    if offset > _MAX_OFFSET:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "no set has so many elements")
    return offset
