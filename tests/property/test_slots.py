"""The party's slots under any order of requests, attempts, grants and releases."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parties.server.slots import PATIENCE_S, Applicant, Claim, Need, Slots

CLAIMS = st.builds(Claim, st.sampled_from("abcde"), st.integers(1, 2))
CAPACITY = Need(3, 8)
APPLICANTS = {
    name: Applicant(name, querier, float(created), need)
    for created, (name, querier, need) in enumerate(
        [
            ("a", "alice", Need(1, 1)),
            ("b", "alice", Need(1, 8)),
            ("c", "bob", Need(0, 3)),
            ("d", "bob", Need(1, 2)),
            ("e", "carol", Need(3, 1)),
        ]
    )
}


class SlotsUnderAnyOrder(RuleBasedStateMachine):
    """Compares with the plainest model: who holds what, and who waits."""

    @initialize()
    def begin(self) -> None:
        self.slots = Slots(CAPACITY)
        self.holders: set[Claim] = set()
        self.waiting: dict[Claim, float] = {}
        self.now = 0.0

    @rule(claim=CLAIMS, wait=st.floats(0, 10))
    def request(self, claim: Claim, wait: float) -> None:
        if claim not in self.holders:
            self.slots.request(claim, APPLICANTS[claim.job_id], now=self.now, not_before=self.now + wait)
            self.waiting[claim] = self.now + wait

    @rule(claim=CLAIMS)
    def attempt(self, claim: Claim) -> None:
        room = claim in self.holders or self._fits(claim)
        if self.slots.attempt(claim, APPLICANTS[claim.job_id], now=self.now):
            assert room
            self.holders.add(claim)

    @rule(claim=CLAIMS)
    def release(self, claim: Claim) -> None:
        self.slots.release(claim)
        self.holders.discard(claim)
        self.waiting.pop(claim, None)

    @rule(job_id=st.sampled_from("abcde"))
    def forget(self, job_id: str) -> None:
        self.slots.forget(job_id)
        self.holders = {claim for claim in self.holders if claim.job_id != job_id}
        self.waiting = {claim: at for claim, at in self.waiting.items() if claim.job_id != job_id}

    @rule(passed=st.sampled_from([0.0, 1.0, 10.0, PATIENCE_S]))
    def grant(self, passed: float) -> None:
        self.now += passed
        granted = self.slots.grant(self.now)
        if granted is None:
            return
        assert self.waiting[granted] <= self.now
        assert self._fits(granted)
        self.holders.add(granted)
        del self.waiting[granted]

    @rule()
    def everybody_who_waits_comes_in_the_end(self) -> None:
        """With all others gone and time enough, each waiting claim is granted, the large ones too."""
        for claim in list(self.holders):
            self.release(claim)
        self.now += PATIENCE_S
        for _ in range(len(self.waiting)):
            granted = self.slots.grant(self.now)
            assert granted is not None
            del self.waiting[granted]
            self.slots.release(granted)
        assert self.slots.num_waiting == 0

    @invariant()
    def never_more_than_there_is(self) -> None:
        if hasattr(self, "slots"):
            assert self.slots.held == sum((APPLICANTS[claim.job_id].need for claim in self.holders), Need(0, 0))
            assert self.slots.held.fits(CAPACITY)
            assert self.slots.num_waiting == len(self.waiting)

    def _fits(self, claim: Claim) -> bool:
        held = sum((APPLICANTS[held.job_id].need for held in self.holders), Need(0, 0))
        return (held + APPLICANTS[claim.job_id].need).fits(CAPACITY)


SlotsUnderAnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestSlotsUnderAnyOrder = SlotsUnderAnyOrder.TestCase
