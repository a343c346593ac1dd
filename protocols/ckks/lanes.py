"""The lanes of a published model: a plan for each way of asking it, or why there is none.

`latency` answers a sample, `packed` several that share a ciphertext, `batch` as many as a ciphertext has slots. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from protocols.ckks.batch import plan_batch
from protocols.ckks.digits import digits_after_point
from protocols.ckks.latency_planning import Declared, plan_latency
from protocols.ckks.machine import REFERENCE_MACHINE, Machine
from protocols.ckks.network import Affine, Network, support
from protocols.ckks.planning import EncryptedPlan
from protocols.ckks.publication import publication
from protocols.errors import ConfideError, ErrorCode
from protocols.model.spec import ModelSpec

LATENCY, PACKED, BATCH = "latency", "packed", "batch"
ALL_LANES = (LATENCY, PACKED, BATCH)
MAX_DECIMALS = 9
MAX_TOLD = 1_000_000_000  # as many answers as a grant can permit
Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class PlannedLanes:
    """What a model can be asked by.

    Attributes:
        plans: by lane, at least one.
        refused: by lane that was tried without success: why.
        decimals: with so many digits after the point the plans' answers are written.
        known_after: after so many samples the model is known, see `samples_that_tell`; 0 if that is more than anybody may ask.
    """

    plans: Mapping[str, EncryptedPlan]
    refused: Mapping[str, str]
    decimals: int
    known_after: int


def plan_lanes(
    spec: ModelSpec,
    weights: Weights,
    declared: Declared,
    *,
    lanes: Sequence[str],
    decimals: int | None = None,
    machine: Machine = REFERENCE_MACHINE,
) -> PlannedLanes:
    """Plans every lane that a model can be asked by.

    Args:
        spec: the architecture.
        weights: by parameter name; what plans tell of them is said in `protocols.ckks.planning`.
        declared: of samples and outputs.
        lanes: which to plan; empty for all, of which those that cannot be are left out.
        decimals: answers are not told finer than this; None for as fine as their noise allows.
        machine: that will answer.

    Raises:
        ConfideError: INVALID_MODEL (the owner's fault): a lane that was asked for, or every lane, cannot be; INVALID_ARGUMENT: a
            lane, range or number of digits that is none.
    """
    unknown = sorted(set(lanes) - set(ALL_LANES))
    if unknown or len(set(lanes)) != len(lanes):
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"lanes are {', '.join(ALL_LANES)}, each named once")
    if decimals is not None and not 0 <= decimals <= MAX_DECIMALS:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, f"answers have 0 to {MAX_DECIMALS} digits after the point")
    known = support(spec)
    plans: dict[str, EncryptedPlan] = {}
    refused: dict[str, str] = {}
    failures: list[ConfideError] = []
    for lane in lanes or ALL_LANES:
        try:
            plans[lane] = _planned(lane, spec, weights, declared, decimals, plans.get(LATENCY), machine)
        except ConfideError as error:
            if lane in lanes or error.code is not ErrorCode.INVALID_MODEL:
                raise
            refused[lane] = error.what
            failures.append(error)
    if not plans:
        raise failures[0]
    return PlannedLanes(
        plans=plans,
        refused=refused,
        decimals=min(
            max(digits_after_point(plan.precision) for plan in plans.values()), MAX_DECIMALS if decimals is None else decimals
        ),
        known_after=samples_that_tell(known),
    )


def samples_that_tell(model: Network) -> int:
    """Returns after how many samples of somebody's choice a model is known; 0 if that is more than `MAX_TOLD`.

    Whatever is computed under encryption is a polynomial of the features. One of d features and total degree D has C(d + D, D)
    coefficients, and so many values in general position determine them by a linear system: d + 1 for a linear model, 496 for a
    network with one square of 30 features. Fewer may do for a network, which has not as many free weights: a bound from above.
    """
    degrees = [1]
    for node in model.nodes:
        if isinstance(node, Affine):
            degrees.append(max(degrees[source] for source, _ in node.terms))
        else:
            degrees.append(degrees[node.source] * (len(node.coefficients) - 1))
    found = math.comb(math.prod(model.input_shape) + degrees[-1], degrees[-1])
    return found if found <= MAX_TOLD else 0


def _planned(
    lane: str,
    spec: ModelSpec,
    weights: Weights,
    declared: Declared,
    decimals: int | None,
    one: EncryptedPlan | None,
    machine: Machine,
) -> EncryptedPlan:
    match lane:
        case "latency":
            found = plan_latency(spec, weights, declared, costs=machine.latency)
        case "packed":
            found = _packed(spec, weights, declared, one or plan_latency(spec, weights, declared), machine)
        case _:
            found = plan_batch(spec, weights, declared, costs=machine.batch)
    step = 0.0 if decimals is None else 10.0**-decimals
    if step > found.precision:
        # Flooding follows the precision, and what is flooded more hides no less; the batch lane chooses its scales by it.
        batch = plan_batch(spec, weights, declared, precision=step, costs=machine.batch) if lane == BATCH else None
        found = batch or replace(found, precision=step)
    publication(found)
    return found


def _packed(spec: ModelSpec, weights: Weights, declared: Declared, one: EncryptedPlan, machine: Machine) -> EncryptedPlan:
    """The most samples that share a ciphertext of the size that one sample needs."""
    widest = max(spec.input_features, *(math.prod(shape) for shape in spec.shapes.values()))
    samples = one.parameters.slots >> max(widest - 1, 0).bit_length()
    while samples > 1:
        try:
            found = plan_latency(spec, weights, declared, samples=samples, costs=machine.latency)
        except ConfideError as error:
            if error.code is not ErrorCode.INVALID_MODEL:
                raise
        else:
            if found.parameters == one.parameters:
                return found
        samples //= 2
    what = f"two samples do not fit beside each other into a ciphertext of {one.parameters.name}"
    raise ConfideError(ErrorCode.INVALID_MODEL, what, remedy="Ask one at a time, or many in the batch lane.")
