"""The plan of a job: everything that will be computed, sent and opened, known before the first secret is shared.

Every party derives the same plan from the job, and the parties compare its digest. Approvers read in it what leaves which
site, the dealer works from it ahead of time, and afterwards what was measured is set beside it. All of it is public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from protocols.canonical import Document, canonical_bytes, sha256_hex
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import FIXED_POINT, FixedPoint
from protocols.links import TensorSpec
from protocols.plan.noise import PlannedNoise, read_planned_noise
from protocols.plan.operations import (
    MAX_OPERATIONS,
    Segment,
    operation_document,
    read_count,
    read_operation,
    read_text,
)
from protocols.plan.schedule import Part as Part
from protocols.plan.schedule import Run as Run
from protocols.plan.schedule import Stage as Stage
from protocols.plan.schedule import first_runs as first_runs
from protocols.plan.schedule import runs_of as runs_of

FORMAT = "confide.plan/4"
ENGINE_VERSION = "confide.engine/7"
ADVERSARY = "semi-honest; the dealer and the computing parties do not collude"
MAX_SEGMENTS = 64
MAX_SIGNALS = 10_000_000


@dataclass(frozen=True)
class PlannedInput:
    """Rows that one owner shares to the computing parties.

    Attributes:
        owner: party id.
        dataset: position in the job's list.
        num_elements: ring elements that are shared: all features, then all labels.
        correction_to: who gets the correction; the owner itself if it computes, and then nothing is sent.
    """

    owner: str
    dataset: int
    num_elements: int
    correction_to: str

    @property
    def sent_bytes(self) -> int:
        """Payload bytes that the owner sends."""
        return 0 if self.correction_to == self.owner else 8 * self.num_elements


@dataclass(frozen=True)
class PlannedResult:
    """A refreshed sharing that leaves the computation.

    Attributes:
        name: parameter of the model, or output of the job.
        shape: of the tensor.
        scale_bits: its fractional bits.
        recipient: querier who receives all shares; empty if every computing party keeps its own (a model).
    """

    name: str
    shape: tuple[int, ...]
    scale_bits: int
    recipient: str

    @property
    def num_bytes(self) -> int:
        """Payload bytes of one party's share."""
        return TensorSpec("int64", self.shape).num_bytes


@dataclass(frozen=True)
class PlannedTold:
    """What computing parties tell an owner that does not compute, of values that they open to all participants.

    Attributes:
        receiver: the owner.
        value_bytes: payload bytes of the values, from the lead.
        digest_bytes: of digests of them, from every other computing party.
    """

    receiver: str
    value_bytes: int
    digest_bytes: int


@dataclass(frozen=True)
class Direction:
    """Payload bytes that one party sends to another one, by purpose."""

    sender: str
    receiver: str
    input_bytes: int
    opening_bytes: int
    correction_bytes: int
    signal_bytes: int
    noise_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of them."""
        return self.input_bytes + self.opening_bytes + self.correction_bytes + self.signal_bytes + self.noise_bytes


@dataclass(frozen=True)
class Plan:
    """See the module.

    `schedule` says how often and in which order the segments run; `signals` how often the lead tells each other computing
    party, in one byte, whether a checkpoint is made now (see docs/protocols/checkpoint.md); `told` what owners that do not
    compute are told of noisy sums (docs/protocols/noisy-sums.md); `noise` what the owners draw for a private training; `numbers`
    how numbers are held and what is declared of them.
    """

    job_digest: str
    computing_parties: tuple[str, ...]
    dealer: str
    inputs: tuple[PlannedInput, ...]
    segments: tuple[Segment, ...]
    schedule: tuple[Stage, ...]
    results: tuple[PlannedResult, ...]
    signals: int = 0
    told: tuple[PlannedTold, ...] = ()
    noise: PlannedNoise | None = None
    engine: str = ENGINE_VERSION
    numbers: FixedPoint = FIXED_POINT

    @property
    def participants(self) -> tuple[str, ...]:
        """All parties: computing parties, dealer, then owners that are neither."""
        owners = (item.owner for item in self.inputs)
        return tuple(dict.fromkeys((*self.computing_parties, self.dealer, *owners)))

    @property
    def model(self) -> tuple[PlannedResult, ...]:
        """Results that each computing party keeps."""
        return tuple(result for result in self.results if not result.recipient)

    @property
    def outputs(self) -> tuple[PlannedResult, ...]:
        """Results that the querier receives."""
        return tuple(result for result in self.results if result.recipient)

    @property
    def num_runs(self) -> int:
        """How many runs of segments the session has."""
        return sum(stage.count * part.count for stage in self.schedule for part in stage.parts)

    @property
    def rounds(self) -> int:
        """Rounds among the computing parties: of masked openings, and of sharing and testing noise."""
        opened = sum(self.segment(name).rounds * count for name, count in self._run_counts().items())
        return opened + (0 if self.noise is None else self.noise.rounds(self.computing_parties))

    @property
    def correction_bytes(self) -> int:
        """What the dealer sends the last computing party."""
        return sum(self.segment(name).correction_bytes * count for name, count in self._run_counts().items())

    @property
    def opened_bytes(self) -> int:
        """What every computing party sends to every other one."""
        return sum(self.segment(name).opened_bytes * count for name, count in self._run_counts().items())

    @property
    def revealed_bits(self) -> int:
        """Bits of the computation that the computing parties learn beside shapes, schedule and volumes."""
        return sum(self.segment(name).revealed_bits * count for name, count in self._run_counts().items())

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Payload bytes by direction, for every direction that carries any."""
        found = []
        for sender in self.participants:
            for receiver in self.participants:
                if sender == receiver:
                    continue
                both_compute = sender in self.computing_parties and receiver in self.computing_parties
                dealt = sender == self.dealer and receiver == self.computing_parties[-1]
                given = sum(i.sent_bytes for i in self.inputs if i.owner == sender and i.correction_to == receiver)
                direction = Direction(
                    sender,
                    receiver,
                    given,
                    self.opened_bytes if both_compute else self._told_bytes(sender, receiver),
                    self.correction_bytes if dealt else 0,
                    self.signals if both_compute and sender == self.computing_parties[0] else 0,
                    0 if self.noise is None else self.noise.sent_bytes(sender, receiver, self.computing_parties),
                )
                if direction.total_bytes:
                    found.append(direction)
        return tuple(found)

    @property
    def payload_bytes(self) -> int:
        """Payload bytes between parties in all."""
        return sum(direction.total_bytes for direction in self.directions)

    @property
    def output_bytes(self) -> int:
        """Payload bytes of output shares from all computing parties to the querier."""
        return len(self.computing_parties) * sum(output.num_bytes for output in self.outputs)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical document; equal at all parties or the session does not start."""
        return sha256_hex(canonical_bytes(self.to_document()))

    def sent_bytes(self, party: str) -> int:
        """Payload bytes that a party sends to other parties."""
        return sum(direction.total_bytes for direction in self.directions if direction.sender == party)

    def segment(self, name: str) -> Segment:
        """Returns a segment by name.

        Raises:
            ConfideError: INTERNAL (ours) if there is none.
        """
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise ConfideError(ErrorCode.INTERNAL, f"the plan has no segment {name!r}")

    def runs(self) -> Iterator[Run]:
        """Yields every run of a segment in order."""
        return runs_of(self.schedule)

    def to_document(self) -> dict[str, Any]:
        """Returns the plan as a document, with its totals for people to read."""
        return {
            "format": FORMAT,
            "engine": self.engine,
            "adversary": ADVERSARY,
            "numbers": self.numbers.to_document(),
            "job": self.job_digest,
            "computing_parties": list(self.computing_parties),
            "dealer": self.dealer,
            "inputs": [vars(item) for item in self.inputs],
            "segments": [_segment_document(segment) for segment in self.segments],
            "schedule": [{**vars(s), "parts": [vars(part) for part in s.parts]} for s in self.schedule],
            "signals": self.signals,
            "told": [vars(told) for told in self.told],
            "noise": None if self.noise is None else self.noise.to_document(),
            "results": [{**vars(result), "shape": list(result.shape)} for result in self.results],
            "totals": {
                "rounds": self.rounds,
                "revealed_bits": self.revealed_bits,
                "payload_bytes": self.payload_bytes,
                "sent_bytes": {party: self.sent_bytes(party) for party in self.participants},
                "directions": [vars(direction) for direction in self.directions],
                "output_bytes": self.output_bytes,
            },
        }

    @staticmethod
    def from_document(document: Document) -> Plan:
        """Reads a plan and checks that it is exactly what its parts say.

        Raises:
            ConfideError: INVALID_DOCUMENT (the author's fault).
        """
        try:
            plan = _read(document)
            same = canonical_bytes(plan.to_document()) == canonical_bytes(document)
        except (KeyError, TypeError, ValueError, AttributeError, ConfideError) as error:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, f"not a plan: {error}") from error
        if not same:
            raise ConfideError(ErrorCode.INVALID_DOCUMENT, "the plan's fields contradict each other, or are of another version")
        return plan

    def _told_bytes(self, sender: str, receiver: str) -> int:
        if sender not in self.computing_parties:
            return 0
        leads = sender == self.computing_parties[0]
        return sum(told.value_bytes if leads else told.digest_bytes for told in self.told if told.receiver == receiver)

    def _run_counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for stage in self.schedule:
            for part in stage.parts:
                counts[part.segment] = counts.get(part.segment, 0) + stage.count * part.count
        return counts


def _segment_document(segment: Segment) -> dict[str, Any]:
    return {
        "name": segment.name,
        "rounds": segment.rounds,
        "opened_bytes": segment.opened_bytes,
        "correction_bytes": segment.correction_bytes,
        "operations": [operation_document(operation) for operation in segment.operations],
    }


def _read(document: Document) -> Plan:
    # Unknown and derived fields need no look here: the caller compares the canonical bytes of the whole.
    return Plan(
        job_digest=read_text(document["job"]),
        computing_parties=tuple(read_text(party) for party in _items(document["computing_parties"], MAX_SEGMENTS)),
        dealer=read_text(document["dealer"]),
        inputs=tuple(_input(item) for item in _items(document["inputs"], MAX_OPERATIONS)),
        segments=tuple(_segment(item) for item in _items(document["segments"], MAX_SEGMENTS)),
        schedule=tuple(_stage(item) for item in _items(document["schedule"], MAX_SEGMENTS)),
        results=tuple(_result(item) for item in _items(document["results"], MAX_OPERATIONS)),
        signals=_signals(document["signals"]),
        told=tuple(_told(item) for item in _items(document["told"], MAX_SEGMENTS)),
        noise=read_planned_noise(document["noise"]),
        engine=read_text(document["engine"]),
        numbers=FixedPoint.from_document(document["numbers"]),
    )


def _input(item: Document) -> PlannedInput:
    return PlannedInput(
        read_text(item["owner"]), read_count(item["dataset"]), read_count(item["num_elements"]), read_text(item["correction_to"])
    )


def _segment(item: Document) -> Segment:
    operations = tuple(read_operation(operation) for operation in _items(item["operations"], MAX_OPERATIONS))
    return Segment(read_text(item["name"]), operations, read_count(item["correction_bytes"]))


def _stage(item: Document) -> Stage:
    parts = tuple(
        Part(read_text(part["segment"]), read_count(part["count"]), read_count(part["batch_rows"]))
        for part in _items(item["parts"], MAX_SEGMENTS)
    )
    return Stage(read_count(item["count"]), parts, read_count(item["first_row"]))


def _told(item: Document) -> PlannedTold:
    return PlannedTold(read_text(item["receiver"]), read_count(item["value_bytes"]), read_count(item["digest_bytes"]))


def _signals(value: Any) -> int:
    signals = read_count(value)
    if signals > MAX_SIGNALS:
        raise ValueError(f"at most {MAX_SIGNALS} signals are expected")
    return signals


def _result(item: Document) -> PlannedResult:
    shape = tuple(read_count(size) for size in _items(item["shape"], 4))
    return PlannedResult(read_text(item["name"]), shape, read_count(item["scale_bits"]), read_text(item["recipient"]))


def _items(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"a list of at most {most} entries is expected")
    return value
