"""What one party says of a job, read from the wire; the ending that it shows is verified under its key."""

from __future__ import annotations

from dataclasses import dataclass

from governance.documents import DocumentKind, SignedDocument, verify
from governance.identity.directory import Directory
from parties.wire.documents import from_wire
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from protocols.mpc.timing import SegmentTiming
from protocols.session.documents import clean_text
from protocols.session.messages import Ending


@dataclass(frozen=True)
class CheckpointMark:
    """A checkpoint that a party can go on from; equal run and head at two parties are shares of the same state."""

    run: int
    head: str


@dataclass(frozen=True)
class Progress:
    """What one party says of a job; `waiting_for` in words, as long as people there have to approve.

    `timing` is what the segments of the plan took at that party, once its worker has finished.
    """

    party: str
    state: str
    phase: str
    step: int
    steps: int
    rounds: int
    payload_bytes: int
    frame_bytes: int
    plan_digest: str
    ending: Ending | None
    checkpoints: tuple[CheckpointMark, ...] = ()
    waiting_for: str = ""
    timing: tuple[SegmentTiming, ...] = ()


def ending_in_words(ending: Ending) -> str:
    """Returns how a job ended, for people; the remedy is not in it."""
    if not ending.code:
        return ending.state.value
    at_fault = f"; at fault: {ending.at_fault}" if ending.at_fault else ""
    return f"{ending.state.value} in phase {ending.phase.value}{at_fault}; {ending.code}: {ending.cause}"


def read_progress(status: jobs_pb2.JobStatus, *, party: str, job_id: str, directory: Directory) -> Progress:
    """Returns what a party said.

    Raises:
        ConfideError: BAD_SIGNATURE or INVALID_DOCUMENT (that party's fault): the ending is not one that it signed for this
            job, or a timing is none.
    """
    ending = None
    if status.HasField("ending"):
        ending = _read_ending(from_wire(status.ending), party=party, job_id=job_id, directory=directory)
    return Progress(
        party=party,
        state=clean_text(status.state),
        phase=clean_text(status.phase),
        step=status.step,
        steps=status.steps,
        rounds=status.rounds,
        payload_bytes=status.payload_bytes,
        frame_bytes=status.frame_bytes,
        plan_digest=status.plan_digest,
        ending=ending,
        checkpoints=tuple(CheckpointMark(kept.run, kept.head) for kept in status.checkpoints),
        waiting_for=clean_text(status.waiting_for),
        timing=tuple(_read_timing(entry, party=party) for entry in status.timing),
    )


def _read_timing(entry: jobs_pb2.SegmentTiming, *, party: str) -> SegmentTiming:
    said = {descriptor.name: getattr(entry, descriptor.name) for descriptor in entry.DESCRIPTOR.fields}
    try:
        return SegmentTiming.from_document({**said, "segment": clean_text(entry.segment)})
    except ConfideError as error:
        raise ConfideError(error.code, error.what, party=party) from error


def _read_ending(signed: SignedDocument, *, party: str, job_id: str, directory: Directory) -> Ending:
    key = directory.party(party).signing_key
    ending = Ending.from_document(verify(signed, kind=DocumentKind.ENDING, signer=party, key=key))
    if ending.session != job_id:
        raise ConfideError(ErrorCode.BAD_SIGNATURE, "the ending is of another job", party=party)
    return ending
