"""Estimates that stand beside a plan: time and memory, from a few measured rates. They are no part of the digest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protocols.plan.operations import Deal
from protocols.plan.plan import Plan


@dataclass(frozen=True)
class Rates:
    """What an institution measured, or assumes.

    Attributes:
        round_trip_s: of a message between two parties.
        bytes_per_s: of a link.
        operation_s: local work of one operation of a plan, at small sizes.
        worker_bytes: memory of an idle worker.
    """

    round_trip_s: float
    bytes_per_s: float
    operation_s: float
    worker_bytes: int


# One machine with two cores, all parties on it, mutual TLS over loopback.
LOOPBACK = Rates(round_trip_s=0.0004, bytes_per_s=3e8, operation_s=0.0004, worker_bytes=300 << 20)


@dataclass(frozen=True)
class Estimate:
    """Seconds of a session, and the most memory in bytes that one party needs."""

    seconds: float
    memory_bytes: int


def estimate(plan: Plan, rates: Rates) -> Estimate:
    """Returns what a plan should cost at given rates; right to a factor of two or so."""
    operations = sum(
        stage.count * part.count * len(plan.segment(part.segment).operations) for stage in plan.schedule for part in stage.parts
    )
    sent = max((plan.sent_bytes(party) for party in plan.participants), default=0)
    seconds = operations * rates.operation_s + plan.rounds * rates.round_trip_s + sent / rates.bytes_per_s
    return Estimate(seconds, rates.worker_bytes + _held_bytes(plan))


def _held_bytes(plan: Plan) -> int:
    """Rows, their mask and its opening stay for the session; the largest segment's material for a run."""
    masks = 0
    largest = 0
    for segment in plan.segments:
        largest = max(largest, segment.correction_bytes + segment.opened_bytes)
        for operation in segment.operations:
            if isinstance(operation, Deal) and operation.kind == "mask" and operation.parameters[1] == 1:
                shape = operation.parameters[2]
                masks += 16 * math.prod(shape if isinstance(shape, tuple) else (shape,))
    rows = sum(8 * item.num_elements for item in plan.inputs)
    return 2 * rows + masks + 4 * largest
