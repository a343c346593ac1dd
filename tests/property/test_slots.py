"""The party's slots under any order of requests, attempts, grants and releases."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from parties.server.slots import Claim, Slots

CLAIMS = st.builds(Claim, st.sampled_from("abcd"), st.integers(1, 2))


class SlotsUnderAnyOrder(RuleBasedStateMachine):
    """Compares with the plainest model: a set of holders and a set of those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(1)
        self.capacity = 1
        self.holders: set[Claim] = set()
        self.waiting: dict[Claim, float] = {}
        self.now = 0.0

    @initialize(capacity=st.integers(1, 3))
    def begin(self, capacity: int) -> None:
        self.slots, self.capacity = Slots(capacity), capacity

    @rule(claim=CLAIMS, wait=st.floats(0, 10))
    def request(self, claim: Claim, wait: float) -> None:
        self.slots.request(claim, not_before=self.now + wait)
        self.waiting[claim] = self.now + wait

    @rule(claim=CLAIMS)
    def attempt(self, claim: Claim) -> None:
        may = claim in self.holders or len(self.holders) < self.capacity
        assert self.slots.attempt(claim) == may
        if may:
            self.holders.add(claim)

    @rule(claim=CLAIMS)
    def release(self, claim: Claim) -> None:
        self.slots.release(claim)
        self.holders.discard(claim)
        self.waiting.pop(claim, None)

    @rule(passed=st.floats(0, 10))
    def grant(self, passed: float) -> None:
        self.now += passed
        granted = self.slots.grant(self.now)
        due = [claim for claim, at in self.waiting.items() if at <= self.now]
        if len(self.holders) < self.capacity and due:
            assert granted in due
            self.holders.add(granted)
            del self.waiting[granted]
        else:
            assert granted is None

    @precondition(lambda self: self.slots.next_time() is not None)
    @rule()
    def next_time_brings_a_grant(self) -> None:
        at = self.slots.next_time()
        assert at is not None
        self.now = max(self.now, at)
        granted = self.slots.grant(self.now)
        assert granted is not None
        self.holders.add(granted)
        del self.waiting[granted]

    @invariant()
    def never_more_than_there_are(self) -> None:
        assert len(self.holders) <= self.capacity
        assert len(self.slots._held) == len(self.holders)


SlotsUnderAnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestSlotsUnderAnyOrder = SlotsUnderAnyOrder.TestCase
