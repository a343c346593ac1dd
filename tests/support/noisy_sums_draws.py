"""What was drawn in a joint training by `run_world`: its noise, and which rows were in each step, made again.

A session there draws from streams that follow from a seed. The same streams, taken in the same order by the same code (the noise
is drawn, shared and tested; then every owner samples its rows), give the same draws again. Nobody who takes part in a real
session could do this: it needs the streams of all owners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.job import Job
from protocols.mpc.late_channel import LateChannel
from protocols.mpc.noise_design import private_terms
from protocols.mpc.noise_sharing import NoiseSharing
from protocols.mpc.noisy_sums_design import SCALE_BITS, batch_of, rows_of
from protocols.mpc.noisy_sums_sampling import draw_sample, training_of
from protocols.plan.plan import Plan
from protocols.private_job_checks import contributors
from protocols.ring import RingArray
from tests.support.memory_links import as_links, connect
from tests.support.mpc_world import in_threads, keys_for, own_random


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of all steps.

    Attributes:
        noise: (steps, trained numbers) float64, of all owners together, in units of the gradient.
        taken: (steps, rows) bool, rows of the first owner first.
    """

    noise: NDArray[np.float64]
    taken: NDArray[np.bool_]


def draws_of(job: Job, plan: Plan, *, seed: str) -> Draws:
    """Returns what `run_world` draws for a job without canaries and this seed."""
    links, keys = connect(plan.participants), keys_for(plan, job, attempt=job.attempt, seed=seed)
    random = {name: own_random(name, seed) for name in plan.participants}

    def share(name: str) -> RingArray | None:
        side = NoiseSharing(
            design=plan.noise,
            party=name,
            computing_parties=plan.computing_parties,
            keys=keys[name],
            channels={peer: LateChannel(link) for peer, link in as_links(links[name]).items()},
            random=random[name],
        )
        side.run()
        return side.take() if name in plan.computing_parties else None

    shares = in_threads({name: lambda name=name: share(name) for name in plan.participants}, links)
    noise = sum(share for share in shares.values() if share is not None)

    def sample(owner: str) -> NDArray[np.bool_]:
        taken = draw_sample(
            rows_of(job, owner),
            batch_size=training_of(job).batch_size,
            nominal_rows=private_terms(job).nominal_rows,
            random=random[owner],
        )
        return taken if taken.sum() <= batch_of(job, owner) else np.zeros_like(taken)

    steps = training_of(job).epochs
    by_owner = [np.stack([sample(owner) for _ in range(steps)]) for owner in contributors(job)]
    return Draws(noise / 2.0**SCALE_BITS, np.concatenate(by_owner, axis=1))
