"""What moves between a party and the other members in a job, in payload bytes; public, from job and plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocols.job import Job
from protocols.plan.plan import Direction, Plan


@dataclass(frozen=True)
class Flow:
    """Payload bytes between this party and one other member, by purpose.

    Attributes:
        peer: the other party, or the querier.
        rows: shares of an owner's rows; each alone is uniformly random.
        openings: masked values among computing parties, uniformly random; in a training by noisy sums the sums, also to owners.
        corrections: correlated randomness from the dealer; independent of all rows.
        signals: one byte each: whether a checkpoint is made now.
        noise: of a private training: shares of an owner's noise, each uniformly random, and what tests it.
        outputs: shares of outputs, to the querier; of the samples of an inference, from the querier.
    """

    peer: str
    rows: int = 0
    openings: int = 0
    corrections: int = 0
    signals: int = 0
    noise: int = 0
    outputs: int = 0

    @property
    def total(self) -> int:
        """All of them, in bytes."""
        return self.rows + self.openings + self.corrections + self.signals + self.noise + self.outputs


def flows_by_peer(flows: Iterable[Flow], *, querier: str) -> Mapping[str, int]:
    """Returns the planned payload bytes by peer as the links of a session count them: without what goes to the querier."""
    return {flow.peer: flow.total for flow in flows if flow.peer != querier}


def sends(job: Job, plan: Plan, party: str) -> Iterable[Flow]:
    """Yields what leaves a party in a job."""
    yield from (_flow(direction, direction.receiver) for direction in plan.directions if direction.sender == party)
    if party in job.computing_parties and plan.outputs:
        blocks = 1 if job.serving is None else -(-job.serving.max_rows // job.serving.block_rows)
        yield Flow(job.querier, outputs=blocks * sum(output.num_bytes for output in plan.outputs))


def receives(job: Job, plan: Plan, party: str) -> Iterable[Flow]:
    """Yields what comes in at a party in a job."""
    yield from (_flow(direction, direction.sender) for direction in plan.directions if direction.receiver == party)
    if party in job.computing_parties and job.most_samples:
        yield Flow(job.querier, outputs=8 * job.most_samples * job.model.input_features)


def _flow(direction: Direction, peer: str) -> Flow:
    return Flow(
        peer,
        direction.input_bytes,
        direction.opening_bytes,
        direction.correction_bytes,
        direction.signal_bytes,
        direction.noise_bytes,
    )
