"""What an evaluation costs: counts of primitives by level, times what each of them takes on a machine.

The shape of a plan is chosen with `reference_costs`, the same everywhere, so that a plan never depends on the machine it was
made on; what it is predicted to take goes by costs measured where it will run (`protocols.ckks.cost_measurement`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from protocols.ckks.parameters import ParameterSet

_CALL = 1e-4  # seconds: of SEAL's memory files, whatever their size


class Primitive(Enum):
    """What the answer to a query is made of; each at the level of what it takes."""

    ROTATE = "rotate"
    SQUARE = "square"  # with relinearisation, without rescaling, as the product
    MULTIPLY = "multiply"
    MULTIPLY_PLAIN = "multiply-plain"
    ADD = "add"
    ADD_PLAIN = "add-plain"
    RESCALE = "rescale"
    DROP = "drop"
    TAKE = "take"  # the bytes of a query: unpacked, checked, its uniform half expanded, loaded
    ANSWER = "answer"  # the result: flooded, masked, re-randomised with a zero made ahead, packed to bytes


Counts = Counter[tuple[Primitive, int]]


@dataclass(frozen=True)
class PrimitiveCosts:
    """Seconds of one thread per primitive and level, at one parameter set.

    Attributes:
        parameters: name of the set.
        seconds: by primitive and level.
    """

    parameters: str
    seconds: Mapping[tuple[Primitive, int], float]

    def of(self, counts: Counts) -> float:
        """Returns what these primitives take, in seconds."""
        return sum(count * self.seconds[each] for each, count in counts.items())


def reference_costs(parameters: ParameterSet) -> PrimitiveCosts:
    """Returns the costs by a formula fitted to the reference machine: transforms of N log N steps, and their number by level."""
    transform = 1.17e-9 * parameters.ring_degree * math.log2(parameters.ring_degree)
    seconds: dict[tuple[Primitive, int], float] = {}
    for level in range(parameters.levels):
        primes = level + 1
        # A key switch transforms every digit modulo every prime and the special one, and divides by the special one.
        switch = transform * (primes * (primes + 1) + 1.8 * (primes + 1))
        seconds |= {
            (Primitive.ROTATE, level): switch,
            (Primitive.SQUARE, level): switch + 0.5 * transform * primes,
            (Primitive.MULTIPLY, level): switch + 0.7 * transform * primes,
            (Primitive.MULTIPLY_PLAIN, level): 0.43 * transform * primes,
            (Primitive.ADD, level): 0.16 * transform * primes,
            (Primitive.ADD_PLAIN, level): 0.08 * transform * primes,
            (Primitive.RESCALE, level): 1.5 * transform * primes,
            (Primitive.DROP, level): 0.1 * transform * primes,
            (Primitive.TAKE, level): _CALL + 2.7 * transform * primes,
            (Primitive.ANSWER, level): 2 * _CALL + 12.5 * transform * primes,
        }
    return PrimitiveCosts(parameters.name, seconds)
