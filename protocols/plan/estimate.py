"""Estimates that stand beside a plan: time and memory, from a few measured rates. They are no part of the digest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from protocols.plan.operations import Deal, Open, Parameter, Segment
from protocols.plan.plan import Plan


@dataclass(frozen=True)
class Rates:
    """What an institution measured, or assumes.

    Attributes:
        round_trip_s: of a message between two parties.
        bytes_per_s: of a link.
        session_s: what a session takes whatever it computes, once its workers have started.
        operation_s: local work of one operation of a plan, at small sizes, on a core of its own.
        worked_bytes_per_s: local work on correlated randomness and openings, by their bytes.
        products_per_s: multiplications of ring elements inside matrix products.
        cores: that all parties share; 0 if each has a core of its own.
        worker_bytes: memory of an idle worker.
    """

    round_trip_s: float
    bytes_per_s: float
    session_s: float
    operation_s: float
    worked_bytes_per_s: float
    products_per_s: float
    cores: int
    worker_bytes: int


# One machine with two cores, all parties on it, mutual TLS over loopback. 0.3 ms of processor time an operation and 4 ns a byte
# were measured over training, evaluation and inference of a small network.
LOOPBACK = Rates(
    round_trip_s=0.0004,
    bytes_per_s=3e8,
    session_s=0.05,
    operation_s=0.0003,
    worked_bytes_per_s=2.5e8,
    products_per_s=1e10,
    cores=2,
    worker_bytes=300 << 20,
)


# Numbers of noise that a party draws and hashes: its own two draws, and of every other owner the opened one. 0.04 us measured.
_DRAWN_PER_S = 2.5e7


@dataclass(frozen=True)
class Estimate:
    """Seconds of a session, and the most memory in bytes that one party needs."""

    seconds: float
    memory_bytes: int


def estimate(plan: Plan, rates: Rates) -> Estimate:
    """Returns what a plan should cost at given rates; right to a factor of two or so."""
    masks: dict[Parameter, tuple[int, ...]] = {}
    work = {segment.name: _work_s(segment, rates, masks) for segment in plan.segments}
    local = sum(stage.count * part.count * work[part.segment] for stage in plan.schedule for part in stage.parts)
    if plan.noise is not None:
        local += (len(plan.noise.owners) + 1) * plan.noise.num_elements / _DRAWN_PER_S
    sent = max((plan.sent_bytes(party) for party in plan.participants), default=0)
    sharing = max(1.0, len(plan.participants) / rates.cores) if rates.cores else 1.0
    seconds = rates.session_s + local * sharing + plan.rounds * rates.round_trip_s + sent / rates.bytes_per_s
    return Estimate(seconds, rates.worker_bytes + _held_bytes(plan))


def _work_s(segment: Segment, rates: Rates, masks: dict[Parameter, tuple[int, ...]]) -> float:
    """Seconds of local work of one run of a segment; notes the masks' shapes, which products refer to."""
    products = 0
    for operation in segment.operations:
        if isinstance(operation, Deal) and operation.kind == "mask":
            mask_id, _, shape = operation.parameters
            masks[mask_id] = _shape(shape)
        elif isinstance(operation, Deal) and operation.kind == "product":
            products += _products(operation, masks)
    worked = segment.correction_bytes + segment.opened_bytes
    # Two products of an opened and a secret matrix at a computing party, one of two masks at the dealer.
    return len(segment.operations) * rates.operation_s + worked / rates.worked_bytes_per_s + 3 * products / rates.products_per_s


def _products(operation: Deal, masks: Mapping[Parameter, tuple[int, ...]]) -> int:
    """Multiplications of one matrix product: the result's elements times the inner dimension, where a mask shows it."""
    left, right, shape = (_shape(parameter) for parameter in operation.parameters)
    for view, is_right in ((right, True), (left, False)):
        known = masks.get(view[0], ())
        if len(known) >= 2 and not view[1]:  # not only the rows of the batch
            return math.prod(shape) * known[-2 if is_right != bool(view[2]) else -1]
    return math.prod(shape)


def _shape(parameter: Parameter) -> tuple[int, ...]:
    return parameter if isinstance(parameter, tuple) else (parameter,)


def _held_bytes(plan: Plan) -> int:
    """Rows, their mask and its opening stay for the session, so do parameters; the largest segment's material for a run."""
    masks = 0
    largest = 0
    for segment in plan.segments:
        unpacked = sum(
            8 * math.prod(array.shape)
            for operation in segment.operations
            if isinstance(operation, Open)
            for array in operation.arrays
            if array.dtype == "int64"
        )
        largest = max(largest, segment.correction_bytes + segment.opened_bytes + unpacked)
        for operation in segment.operations:
            if isinstance(operation, Deal) and operation.kind == "mask" and operation.parameters[1] == 1:
                masks += 16 * math.prod(_shape(operation.parameters[2]))
    # Without any correlated randomness owners share no rows but sums, of which only those of a step are held.
    dealt = any(isinstance(operation, Deal) for segment in plan.segments for operation in segment.operations)
    rows = sum(8 * item.num_elements for item in plan.inputs) if dealt else 0
    results = sum(result.num_bytes for result in plan.results)
    # Shares of both draws of every owner, two draws of its own, the sum, and a draw in the making.
    noise = 0 if plan.noise is None else 8 * (2 * len(plan.noise.owners) + 4) * plan.noise.num_elements
    return 2 * rows + masks + 4 * largest + 4 * results + noise
