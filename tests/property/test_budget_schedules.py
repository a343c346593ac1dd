"""Concurrent jobs, crashes at every write, and never more opened than the caps permit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.support.ledgers import (
    MemoryLedger,
    MemoryStore,
    Schedule,
    a_schedule,
    always_committed,
    refund_always,
    reserve_blindly,
)

SCHEDULES = 10_000
PER_TEST = 2_500
STEPS = 18


def run_in_memory(seed: int, ledger: MemoryLedger, steps: int = STEPS) -> Schedule:
    schedule = a_schedule(seed, lambda crash: MemoryStore(ledger, crash))
    schedule.run(steps)
    return schedule


@pytest.mark.parametrize("first", range(0, SCHEDULES, PER_TEST))
def test_ledger_random_schedules_with_crashes_never_overspend(first: int) -> None:
    opened = refused = 0
    for seed in range(first, first + PER_TEST):
        ledger = MemoryLedger()
        schedule = run_in_memory(seed, ledger)
        assert schedule.overspent(ledger.entries) == [], f"seed {seed}"
        opened += len(schedule.paid)
        refused += sum(job.believes == "refused" for job in schedule.jobs)
    assert opened > PER_TEST // 2, "the schedules open something"
    assert refused > PER_TEST // 10, "and reach the caps"


@pytest.mark.parametrize(
    "faulty",
    [
        lambda: MemoryLedger(reserve=reserve_blindly),
        lambda: MemoryLedger(refund=refund_always),
        lambda: MemoryLedger(is_committed=always_committed, refund=refund_always),
    ],
)
def test_ledger_with_a_fault_is_found_by_the_schedules(faulty: Callable[[], MemoryLedger]) -> None:
    found = 0
    for seed in random.Random(7).sample(range(SCHEDULES), 60):
        ledger = faulty()
        found += bool(run_in_memory(seed, ledger, 60).overspent(ledger.entries))
    assert found > 0
