"""Linking in the database: pseudonym projects and their evaluations, and private intersections with their states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from sqlalchemy import select
from sqlalchemy.orm import Session

from parties.storage.linking_tables import IntersectionRow, PseudonymCheckRow, PseudonymProjectRow, PseudonymUseRow
from protocols.errors import ConfideError, ErrorCode
from protocols.identifiers.intersection import Mode


@dataclass(frozen=True)
class ProjectRecord:
    """A pseudonym project as this party's operator has opened it.

    Attributes:
        project: its name.
        rotation: of its keys, from 1.
        members: ids of all its institutions, sorted, this one among them.
        evaluations: as many may each other member ask for under this rotation.
        opened: when, UTC.
        closed: since when nothing is evaluated, UTC; None if it is open.
    """

    project: str
    rotation: int
    members: tuple[str, ...]
    evaluations: int
    opened: datetime
    closed: datetime | None


class IntersectionState(Enum):
    """How far a private intersection is at this side."""

    OFFERED = "offered"  # this side waits to be dialled
    RUNNING = "running"
    CONCLUDING = "concluding"  # of the side that dials: it has everything, and asks the other side to register
    DONE = "done"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether nothing follows."""
        return self in (IntersectionState.DONE, IntersectionState.FAILED)


@dataclass(frozen=True)
class IntersectionRecord:
    """A private intersection at this side.

    Attributes:
        intersection_id: random, of this side alone.
        peer: the other side.
        label: what both call the set.
        mode: what is disclosed.
        dataset: the name under which common rows are registered here; empty if none are.
        schema_document: canonical bytes of the schema of this side's columns, public.
        own_rows: elements of this side's set.
        commitment: to the masked set, 32 bytes.
        sealed_name: of the file with rows and key; empty once it is destroyed.
        state: how far it is.
        expires: when it ends by itself, UTC.
        session: of the meeting, hexadecimal; empty before.
        peer_rows: elements of the other side's set; 0 before the meeting.
        transcript: digest of everything both have seen; empty before the outcome.
        found: common elements; None if this side does not know.
        alignment: of the registered rows; empty if there are none.
        dataset_version: of the registration; None if there is none.
        failure: name of the error code that ended it; empty if none did.
        what: likewise its text.
    """

    intersection_id: str
    peer: str
    label: str
    mode: Mode
    dataset: str
    schema_document: bytes
    own_rows: int
    commitment: bytes
    sealed_name: str
    state: IntersectionState
    expires: datetime
    session: str = ""
    peer_rows: int = 0
    transcript: str = ""
    found: int | None = None
    alignment: str = ""
    dataset_version: int | None = None
    failure: str = ""
    what: str = ""


class LinkingStore:
    """Linking in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put_project(self, record: ProjectRecord) -> None:
        """Keeps a project as it is now.

        Raises:
            ConfideError: JOB_CONFLICT (the operator's fault): a rotation that has been left, or other members of the same one.
        """
        known = self.find_project(record.project)
        if known is not None and record.rotation < known.rotation:
            what = f"project {record.project} is at rotation {known.rotation}; keys that were left are not used again"
            raise ConfideError(ErrorCode.JOB_CONFLICT, what, remedy=f"Name rotation {known.rotation} or a later one.")
        if known is not None and record.rotation == known.rotation and record.members != known.members:
            what = f"rotation {known.rotation} of project {record.project} is with other institutions"
            raise ConfideError(ErrorCode.JOB_CONFLICT, what, remedy="Open the next rotation, at every institution.")
        self._session.merge(PseudonymProjectRow(**vars(record) | {"members": json.dumps(record.members)}))
        self._session.flush()

    def find_project(self, project: str) -> ProjectRecord | None:
        """Returns a project, or None if it was never opened here."""
        row = self._session.get(PseudonymProjectRow, project)
        return None if row is None else _project(row)

    def projects(self) -> tuple[ProjectRecord, ...]:
        """Returns all projects, in the order of their names."""
        return tuple(map(_project, self._session.scalars(select(PseudonymProjectRow).order_by(PseudonymProjectRow.project))))

    def evaluated(self, project: ProjectRecord, peer: str) -> int:
        """Returns how many evaluations were made for a peer under the current rotation."""
        row = self._session.get(PseudonymUseRow, (project.project, project.rotation, peer))
        return 0 if row is None else row.evaluations

    def count_evaluations(self, project: ProjectRecord, peer: str, count: int) -> int:
        """Counts evaluations before they are made; returns how many are left.

        Raises:
            ConfideError: BUDGET_EXHAUSTED: fewer are left; nothing is counted.
        """
        used = self.evaluated(project, peer)
        if used + count > project.evaluations:
            left = max(0, project.evaluations - used)  # the number may have been lowered
            what = f"{left} evaluations are left for {peer} in {project.project}; {count} were asked for"
            remedy = "Ask for fewer identifiers, or have the operator there agree to more with `confide dataset project open`."
            raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, what, remedy=remedy)
        self._session.merge(
            PseudonymUseRow(project=project.project, rotation=project.rotation, peer=peer, evaluations=used + count)
        )
        self._session.flush()
        return project.evaluations - used - count

    def check_key(self, project: ProjectRecord, helper: str, value: bytes) -> bool:
        """Returns whether a helper, or this party itself, uses the key that it used first; the first time is kept."""
        row = self._session.get(PseudonymCheckRow, (project.project, project.rotation, helper))
        if row is not None:
            return row.value == value
        self._session.add(PseudonymCheckRow(project=project.project, rotation=project.rotation, helper=helper, value=value))
        self._session.flush()
        return True

    def put(self, record: IntersectionRecord) -> None:
        """Keeps an intersection as it is now."""
        fields = vars(record) | {"mode": record.mode.value, "state": record.state.value}
        self._session.merge(IntersectionRow(**fields))
        self._session.flush()

    def get(self, intersection_id: str) -> IntersectionRecord:
        """Returns an intersection.

        Raises:
            ConfideError: UNKNOWN_SESSION: there is none.
        """
        row = self._session.get(IntersectionRow, intersection_id)
        if row is None:
            raise ConfideError(ErrorCode.UNKNOWN_SESSION, "no such intersection is known here")
        return _intersection(row)

    def in_states(self, *states: IntersectionState) -> tuple[IntersectionRecord, ...]:
        """Returns the intersections in some states, the one that ends first first."""
        query = (
            select(IntersectionRow)
            .where(IntersectionRow.state.in_([state.value for state in states]))
            .order_by(IntersectionRow.expires, IntersectionRow.intersection_id)
        )
        return tuple(map(_intersection, self._session.scalars(query)))

    def find_open(self, peer: str, label: str, *states: IntersectionState) -> IntersectionRecord | None:
        """Returns the intersection with a peer under a label that is in one of some states; None if there is none."""
        found = (record for record in self.in_states(*states) if (record.peer, record.label) == (peer, label))
        return next(found, None)

    def find_session(self, peer: str, session: str) -> IntersectionRecord | None:
        """Returns the intersection of a session with a peer, or None."""
        query = select(IntersectionRow).where(IntersectionRow.session == session, IntersectionRow.peer == peer).limit(1)
        row = self._session.scalar(query) if session else None
        return None if row is None else _intersection(row)

    def sealed_names(self) -> tuple[str, ...]:
        """Returns the names of all sealed files of intersections."""
        return tuple(self._session.scalars(select(IntersectionRow.sealed_name).where(IntersectionRow.sealed_name != "")))


def ended(record: IntersectionRecord, failure: ErrorCode, what: str) -> IntersectionRecord:
    """Returns an intersection that has failed; its sealed file has to be destroyed after this is kept."""
    return replace(record, state=IntersectionState.FAILED, sealed_name="", failure=failure.name, what=what[:500])


def _project(row: PseudonymProjectRow) -> ProjectRecord:
    members: Sequence[str] = json.loads(row.members)
    return ProjectRecord(row.project, row.rotation, tuple(members), row.evaluations, row.opened, row.closed)


def _intersection(row: IntersectionRow) -> IntersectionRecord:
    fields = {column.name: getattr(row, column.name) for column in IntersectionRow.__table__.columns}
    return IntersectionRecord(**fields | {"mode": Mode(row.mode), "state": IntersectionState(row.state)})
