"""A published model in one of its lanes, as its evaluation needs it: plan, sizes, and how many numbers an answer can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from governance.encrypted.commitment import is_committed
from governance.encrypted.enquiry import Enquiry
from governance.encrypted.published import PublishedModel
from parties.server.party import Party
from parties.storage.database import Tables
from parties.storage.encrypted import PublishedRecord
from parties.storage.sealed import Purpose
from protocols.canonical import canonical_bytes
from protocols.ckks.planning import EncryptedPlan, Lane
from protocols.ckks.wire import WireShape
from protocols.ckks.wire_header import HEADER_BYTES, MessageKind, payload
from protocols.errors import ConfideError, ErrorCode

LONG_S = 0.3
"""A query that is predicted to take longer never holds all evaluators."""
_WORD = 8


@dataclass(frozen=True)
class OpenLane:
    """A model in one lane; all of it is public but what `parts` reads.

    Attributes:
        lane: which of its plans.
        plan: that plan.
        shape: of its messages.
        answers: numbers that an answer can hold; debited for each.
        record: the model as it stands in the database; its salt is secret.
    """

    record: PublishedRecord = field(repr=False)
    lane: str
    plan: EncryptedPlan
    shape: WireShape
    answers: int

    @staticmethod
    def of(record: PublishedRecord, lane: str) -> OpenLane:
        """Reads the plan.

        Raises:
            ConfideError: INVALID_DOCUMENT (its owner's fault).
        """
        plan = EncryptedPlan.from_document(record.model.plans[lane])
        return OpenLane(record, lane, plan, WireShape.of(plan), plan.numbers_per_answer)

    @property
    def model(self) -> PublishedModel:
        """The published model."""
        return self.record.model

    @property
    def query_bytes(self) -> int:
        """Exact bytes of a query."""
        return self.shape.query_bytes

    @property
    def query_kind(self) -> MessageKind:
        """What a query's message says that it is."""
        return MessageKind.BATCH_QUERY if self.plan.lane is Lane.BATCH else MessageKind.QUERY

    @property
    def is_long(self) -> bool:
        """Whether a query takes so long that others are not to wait for it."""
        return self.plan.predictions.server_seconds > LONG_S

    @property
    def key_memory(self) -> int:
        """Bytes that evaluation keys take once SEAL has loaded them: with all digits and primes."""
        manifest, parameters = self.plan.keys, self.plan.parameters
        keys = len(manifest.rotations) + (manifest.relinearise_level is not None)
        each = parameters.levels * 2 * (parameters.levels + 1) * parameters.ring_degree * _WORD
        return max(keys * each, self.shape.key_bytes)

    def check_start(self, kind: MessageKind, data: bytes) -> None:
        """Checks the beginning of a message before any of it is kept.

        Raises:
            ConfideError: INVALID_ARGUMENT (the querier's fault): another library's, one with a secret key, or another plan's.
        """
        digest = self.shape.plan_digest
        payload(data, kind, digest, len(data) - HEADER_BYTES, code=ErrorCode.INVALID_ARGUMENT)

    def check_query(self, query: bytes) -> None:
        """Checks beginning and length of a query that came in one piece; its contents are the evaluator's to check.

        Raises:
            ConfideError: INVALID_ARGUMENT (the querier's fault).
        """
        expected = self.query_bytes - HEADER_BYTES
        payload(query, self.query_kind, self.shape.plan_digest, expected, code=ErrorCode.INVALID_ARGUMENT)

    def parts(self, party: Party) -> Mapping[str, bytes]:
        """Returns what an evaluator loads the model from; the weights are secret.

        Raises:
            ConfideError: STATE_DAMAGED (the operator's fault): missing, or not what was committed to.
        """
        record = self.record
        weights = party.sealed.read(Purpose.PUBLISHED_MODEL, record.object_id, record.sealed_name)
        if not is_committed(record.model.commitment, record.manifest, weights, salt=record.salt):
            what = f"the weights of {record.model.ref.label} are not those that were committed to"
            raise ConfideError(ErrorCode.STATE_DAMAGED, what)
        return {"plan": canonical_bytes(self.plan.to_document()), "manifest": record.manifest, "weights": weights}


class Lanes:
    """Lanes that were read before: a version never changes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[tuple[str, str], OpenLane] = {}

    def of(self, tables: Tables, enquiry: Enquiry) -> OpenLane:
        """Returns the lane that an enquiry names; withdrawn or not is not its question.

        Raises:
            ConfideError: UNKNOWN_MODEL (the querier's fault): not published here, or not in this lane.
        """
        named = (enquiry.ref.label, enquiry.lane)
        with self._lock:
            found = self._known.get(named)
        if found is None:
            record = tables.encrypted.find_model(enquiry.ref)
            if record is None or enquiry.lane not in record.model.plans:
                raise ConfideError(ErrorCode.UNKNOWN_MODEL, f"{enquiry.ref.label} has no lane {enquiry.lane} here")
            found = OpenLane.of(record, enquiry.lane)
            with self._lock:
                self._known[named] = found
        return found
