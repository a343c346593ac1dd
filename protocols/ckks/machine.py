"""What answers take on a machine, which is what plans state: by measuring there, or by the reference machine's figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from protocols.ckks.batch_costs import REFERENCE, BatchCosts, measure_batch_costs
from protocols.ckks.cost_measurement import measure_costs
from protocols.ckks.costs import PrimitiveCosts, reference_costs
from protocols.ckks.engine import Engine
from protocols.ckks.parameters import ParameterSet


@dataclass(frozen=True)
class Machine:
    """Costs of a machine, one thread.

    Attributes:
        latency: of the primitives of the latency lane, by parameter set.
        batch: of the batch lane, by parameter set.
    """

    latency: Callable[[ParameterSet], PrimitiveCosts]
    batch: Callable[[ParameterSet], BatchCosts]


REFERENCE_MACHINE = Machine(reference_costs, lambda _: REFERENCE)


def measured_machine(clock: Callable[[], float]) -> Machine:
    """Returns the costs of this machine. Each set is measured once, when it is asked for: some seconds of the processor.

    Args:
        clock: seconds of the processor, as `time.process_time`.
    """

    @cache
    def latency(parameters: ParameterSet) -> PrimitiveCosts:
        return measure_costs(Engine(parameters), clock)

    @cache
    def batch(parameters: ParameterSet) -> BatchCosts:
        return measure_batch_costs(parameters, clock, repetitions=1)

    return Machine(latency, batch)
