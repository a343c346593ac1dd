"""Noise of the computing parties on what is opened of predictions (docs/protocols/outputs.md).

Every computing party adds integers of its own to its own share, without a message. They are added before anything is chosen,
withheld or rounded in shares, so that all of that is computed from noisy numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protocols.answer_noise import VALUE_RANGE, own_deviation
from protocols.discrete_gaussian import sample
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.job import Job, Task
from protocols.job_parts import Output
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.primitives.staircase import staircase
from protocols.mpc.primitives.truncation import truncate
from protocols.prg import KEY_BYTES, AesCtrStream
from protocols.ring import RingArray
from protocols.secrets import SecretBytes

Draw = Callable[[int, int], RingArray]
"""Gives so many fresh integers of this party's own with such a standard deviation, int64, secret."""

_UNIT = 1 << VALUE_BITS
_LEAST_CUT = 2  # a truncation by so many bits gives less than 2^63 - 2^60 of any number of the ring


def no_noise(count: int, deviation: int) -> RingArray:
    """Stands for a party's noise in a dry run, which opens nothing; public."""
    del deviation
    return np.zeros(count, np.int64)


def drawn_from(random: Callable[[int], bytes]) -> Draw:
    """Returns what draws from the discrete Gaussian.

    Args:
        random: gives so many random bytes of this party's own; a key is taken from it with the first draw.
    """
    streams: list[AesCtrStream] = []

    def draw(count: int, deviation: int) -> RingArray:
        if not streams:
            streams.append(AesCtrStream(SecretBytes(random(KEY_BYTES))))
        return sample(streams[0], count, deviation)

    return draw


def with_noise(job: Job, output: Output, share: RingArray, draw: Draw | None, *, times: int = 1) -> RingArray:
    """Returns this party's share of noisy numbers: its own integers are added to its own share; local.

    Args:
        job: the agreed job.
        output: with noise; public.
        share: int64 at 16 fractional bits, any shape, secret.
        draw: gives this party's integers.
        times: by how much the deviation is larger than the output says: of a sum of so many answers; public.

    Raises:
        ConfideError: INTERNAL (ours) if nothing gives noise.
    """
    if draw is None:
        raise ConfideError(ErrorCode.INTERNAL, "an output with noise, and nothing that draws it")
    deviation = own_deviation(output, drawers=len(job.computing_parties)) * times
    result: RingArray = share + draw(share.size, deviation).reshape(share.shape)
    return result


def small(engine: Engine, share: RingArray, scale_bits: int) -> Steps[RingArray]:
    """Returns this party's share of a value at 16 fractional bits that is far from the ring's ends for every number of the ring.

    It is below 2^63 - 2^60 in absolute value, so comparisons with public numbers agree with each other, whatever the model
    computes. One round; the error is 0 or +1 unit of 2^-16, and 0 of a value that has 16 fractional bits and is below 2^60.

    Args:
        engine: this party's engine.
        share: int64, any shape, secret.
        scale_bits: its fractional bits, 16 or more.

    Learns: nobody anything; the opened number is uniform.
    """
    shift = max(_LEAST_CUT, scale_bits - VALUE_BITS)
    lifted = share << np.int64(shift - (scale_bits - VALUE_BITS))
    return (yield from truncate(engine, lifted, shift))


def within_range(engine: Engine, share: RingArray, task: Task) -> Steps[RingArray]:
    """Returns this party's share of probabilities clipped to [0, 1], or of values clipped to [-1, 1], exactly.

    Four rounds: whatever the model computes, one answer moves a number by no more than the range is wide.

    Args:
        engine: this party's engine.
        share: int64 at 16 fractional bits, any shape, secret.
        task: what is predicted; public.

    Learns: nobody anything; everything opened is uniform.
    """
    low = (1 - VALUE_RANGE) * _UNIT if task is Task.REAL else 0
    steps = yield from staircase(engine, share.reshape(-1), (low, _UNIT))
    inside = steps.piecewise_linear((0, 1, 0))
    return (inside + steps.piecewise((low, 0, _UNIT))).reshape(share.shape)
