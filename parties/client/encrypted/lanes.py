"""Which lane answers a request: the one that is predicted to be done first, with what each lane would take said beside it.

What is left of a grant its owner alone knows. Where it is less than that lane debits, one that debits less is the next choice.

Pure; the predictions are those of the published plans.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from protocols.ckks.planning import EncryptedPlan
from protocols.errors import ConfideError, ErrorCode

BYTES_PER_SECOND = 12.5e6
"""Of the connection to the model's owner, where nothing is known of it: 100 Mbit/s."""
_AS_ASKED_FOR = "as asked for"


@dataclass(frozen=True)
class LaneCost:
    """What a request would take in one lane; public.

    Attributes:
        lane: its name in the published model.
        requests: how many queries it takes.
        numbers: that are debited for them.
        sent_bytes: queries, answers, and keys if they are not at the owner yet.
        seconds: predicted, of one evaluator's thread and the connection.
    """

    lane: str
    requests: int
    numbers: int
    sent_bytes: int
    seconds: float

    def in_words(self) -> str:
        """Says it in a line."""
        queries = "1 query" if self.requests == 1 else f"{self.requests:,} queries"
        cost = f"{self.sent_bytes / 1e6:,.1f} MB, about {self.seconds:,.1f} s"
        return f"{self.lane}: {queries}, {cost}, debits {self.numbers:,} numbers"


@dataclass(frozen=True)
class LaneChoice:
    """The lane that was chosen.

    Attributes:
        cost: of the chosen one.
        others: of those that were not chosen, the next best first.
        why: in words.
    """

    cost: LaneCost
    others: tuple[LaneCost, ...]
    why: str

    @property
    def lane(self) -> str:
        """Its name in the published model."""
        return self.cost.lane

    @property
    def is_free(self) -> bool:
        """Whether nobody has insisted on the lane."""
        return self.why != _AS_ASKED_FOR

    def thriftier(self) -> LaneChoice | None:
        """Returns the choice of the next best lane that debits fewer numbers; None if there is none."""
        found = next((cost for cost in self.others if cost.numbers < self.cost.numbers), None)
        if found is None:
            return None
        others = tuple(cost for cost in (self.cost, *self.others) if cost is not found)
        return LaneChoice(found, others, f"the lane {self.lane} debits {self.cost.numbers:,} numbers, more than are left")

    def in_words(self) -> str:
        """Says what was chosen, why, and what the others would take."""
        beside = "; ".join(each.in_words() for each in self.others)
        return f"{self.cost.in_words()} ({self.why})" + (f". Not taken: {beside}" if beside else "")


def choose_lane(
    plans: Mapping[str, EncryptedPlan], num_rows: int, *, ready: Collection[str] = (), wanted: str | None = None
) -> LaneChoice:
    """Returns the lane for a request of so many rows.

    Args:
        plans: of the published model, by lane.
        num_rows: at least one.
        ready: lanes whose evaluation keys the owner has.
        wanted: a lane that the caller insists on.

    Raises:
        ConfideError: INVALID_ARGUMENT (the caller's fault): no rows, or a lane that the model does not have.
    """
    if num_rows < 1:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "there are no samples to ask about")
    costs = sorted(
        (cost_of(lane, plan, num_rows, keys=lane not in ready) for lane, plan in plans.items()),
        key=lambda cost: (cost.seconds, cost.numbers, cost.lane),
    )
    if wanted is None:
        why = "predicted to be done first" if len(costs) > 1 else "the only lane of the model"
        return LaneChoice(costs[0], tuple(costs[1:]), why)
    chosen = next((cost for cost in costs if cost.lane == wanted), None)
    if chosen is None:
        what = f"the model has no lane {wanted[:20]!r}"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=f"Choose among {', '.join(sorted(plans))}.")
    return LaneChoice(chosen, tuple(cost for cost in costs if cost is not chosen), _AS_ASKED_FOR)


def cost_of(lane: str, plan: EncryptedPlan, num_rows: int, *, keys: bool) -> LaneCost:
    """Returns what a request would take in a lane.

    Args:
        lane: its name in the published model.
        plan: its plan.
        num_rows: how many samples.
        keys: whether evaluation keys have to be uploaded first.
    """
    requests, said = -(-num_rows // plan.samples), plan.predictions
    sent = requests * (said.upload_bytes + said.answer_bytes) + (said.key_bytes if keys else 0)
    seconds = requests * said.server_seconds + sent / BYTES_PER_SECOND
    return LaneCost(lane, requests, requests * plan.numbers_per_answer, sent, seconds)
