"""Release of a model held as shares: all its parameters, opened to one recipient (docs/releasing-models.md).

Nothing is computed: the shares that the computing parties keep are refreshed and handed out, each party's by its own gate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import PARAMETER_BITS, PARAMETER_LIMIT_BITS
from protocols.job import Job
from protocols.mpc.programs.program import Program, Results
from protocols.mpc.values import SharedValue
from protocols.plan.plan import Stage
from protocols.ring import RingArray


def release_schedule() -> tuple[Stage, ...]:
    """Returns the schedule: no segment, since nothing is computed."""
    return ()


class ReleaseProgram(Program):
    """One party's side of a release.

    Args:
        job: the agreed job.
        model_share: int64 share of every parameter at 24 fractional bits, by name; other entries are not used.
    """

    def __init__(self, *, job: Job, model_share: Mapping[str, RingArray]) -> None:
        self._name = job.outputs[0].name
        self._flat = np.concatenate([model_share[spec.name].reshape(-1) for spec in job.model.parameters])

    def run_segment(self, name: str) -> None:
        """Refuses: a release has no segments.

        Raises:
            ConfideError: INTERNAL (ours).
        """
        raise ConfideError(ErrorCode.INTERNAL, f"a release has no segment {name!r}")

    def results(self) -> Results:
        """Returns all parameters, one after the other in the model's order: (parameters,) at 24 fractional bits."""
        value = SharedValue(self._flat, scale_bits=PARAMETER_BITS, magnitude_bits=PARAMETER_BITS + PARAMETER_LIMIT_BITS)
        return Results(outputs={self._name: value})
