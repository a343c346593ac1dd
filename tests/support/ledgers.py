"""Ledgers for tests: one in memory, faulty ones, and schedules of jobs that spend from one under crashes.

A schedule has a few jobs, each at its stored stage, and draws from its seed which of them goes on next, what it charges, whether
it fails, and where the process dies: before a write, or after it and before anybody knows. A job that goes on after a crash
repeats what it did last. The truth about what was opened is kept apart from the ledger, and compared with the caps.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from governance.budget import ledger as core
from governance.budget.amounts import NOTHING, Amount
from governance.budget.ledger import LedgerEntry, Shortfall, Step
from governance.policy.budgets import Caps
from protocols.errors import ConfideError, ErrorCode

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCOUNTS = ("dataset/patients", "dataset/scans", "model/diagnosis@0123456789ab")


class Ledger(Protocol):
    """What every ledger does; see `parties.storage.ledger`."""

    def shortfalls(
        self, job_id: str, charges: Mapping[str, Amount], caps: Mapping[str, Caps], *, kind: str
    ) -> tuple[Shortfall, ...]: ...
    def reserve(
        self, job_id: str, charges: Mapping[str, Amount], caps: Mapping[str, Caps], now: datetime, *, kind: str
    ) -> None: ...
    def commit(self, job_id: str, now: datetime) -> None: ...
    def refund(self, job_id: str, now: datetime) -> None: ...
    def is_committed(self, job_id: str, charges: Mapping[str, Amount]) -> bool: ...
    def of_job(self, job_id: str) -> tuple[LedgerEntry, ...]: ...
    def of_account(self, account: str) -> tuple[LedgerEntry, ...]: ...


class MemoryLedger:
    """The ledger in memory; its core's functions may be replaced by faulty ones."""

    def __init__(
        self,
        *,
        reserve: Callable[..., tuple[LedgerEntry, ...]] = core.reserve,
        refund: Callable[..., tuple[LedgerEntry, ...]] = core.refund,
        is_committed: Callable[..., bool] = core.is_committed,
    ) -> None:
        self.entries: list[LedgerEntry] = []
        self._reserve = reserve
        self._refund = refund
        self._is_committed = is_committed

    def shortfalls(
        self, job_id: str, charges: Mapping[str, Amount], caps: Mapping[str, Caps], *, kind: str
    ) -> tuple[Shortfall, ...]:
        return core.shortfalls(self.entries, job_id=job_id, kind=kind, charges=charges, caps=caps)

    def reserve(self, job_id: str, charges: Mapping[str, Amount], caps: Mapping[str, Caps], now: datetime, *, kind: str) -> None:
        self.entries += self._reserve(self.entries, job_id=job_id, kind=kind, charges=charges, caps=caps, now=now)

    def commit(self, job_id: str, now: datetime) -> None:
        self.entries += core.commit(self.entries, job_id=job_id, now=now)

    def refund(self, job_id: str, now: datetime) -> None:
        self.entries += self._refund(self.entries, job_id=job_id, now=now)

    def is_committed(self, job_id: str, charges: Mapping[str, Amount]) -> bool:
        return self._is_committed(self.entries, job_id=job_id, charges=charges)

    def of_job(self, job_id: str) -> tuple[LedgerEntry, ...]:
        return tuple(entry for entry in self.entries if entry.job_id == job_id)

    def of_account(self, account: str) -> tuple[LedgerEntry, ...]:
        return tuple(entry for entry in self.entries if entry.account == account)


def reserve_blindly(entries: Sequence[LedgerEntry], **arguments: object) -> tuple[LedgerEntry, ...]:
    """A fault: counts what is committed and forgets what is only reserved."""
    committed = {(entry.account, entry.job_id) for entry in entries if entry.step is Step.COMMIT}
    seen = [entry for entry in entries if (entry.account, entry.job_id) in committed or entry.job_id == arguments["job_id"]]
    return core.reserve(seen, **arguments)  # type: ignore[arg-type]  # as it was called


def refund_always(entries: Sequence[LedgerEntry], *, job_id: str, now: datetime) -> tuple[LedgerEntry, ...]:
    """A fault: gives back what has been committed."""
    reserved = [entry for entry in entries if entry.job_id == job_id and entry.step is Step.RESERVE]
    refunded = {entry.account for entry in entries if entry.job_id == job_id and entry.step is Step.REFUND}
    return tuple(
        LedgerEntry(e.account, job_id, Step.REFUND, e.amount, now, e.kind) for e in reserved if e.account not in refunded
    )


def always_committed(_entries: Sequence[LedgerEntry], **_arguments: object) -> bool:
    """A fault of the gate: opens without asking whether it was paid."""
    return True


class Store(Protocol):
    """A ledger with the stages of jobs beside it: both are stored together, or neither."""

    def transaction(self) -> AbstractContextManager[tuple[Ledger, dict[str, str]]]: ...


class Died(Exception):
    """The process is gone."""


class MemoryStore:
    """Transactions in memory that a crash may hit: before the write nothing is kept, after it everything."""

    def __init__(self, ledger: MemoryLedger, crash: Callable[[], str] = lambda: "") -> None:
        self.ledger = ledger
        self.stages: dict[str, str] = {}
        self._crash = crash

    @contextmanager
    def transaction(self) -> Iterator[tuple[MemoryLedger, dict[str, str]]]:
        entries, stages = list(self.ledger.entries), dict(self.stages)
        try:
            yield self.ledger, self.stages
            fate = self._crash() if (entries, stages) != (self.ledger.entries, self.stages) else ""
            if fate == "before":
                raise Died
        except BaseException:
            self.ledger.entries, self.stages = entries, stages
            raise
        if fate == "after":
            raise Died


@dataclass
class Job:
    """One job of a schedule: what it charges, whether it fails after its part is done, and what it believes its stage to be."""

    job_id: str
    charges: dict[str, Amount]
    fails: bool
    believes: str = "new"


@dataclass
class Schedule:
    """Jobs that spend from one ledger; what is opened is noted here, whatever the ledger says."""

    random: random.Random
    store: Store
    caps: dict[str, Caps]
    jobs: list[Job]
    opened: dict[str, Amount] = field(default_factory=lambda: defaultdict(lambda: NOTHING))
    paid: set[str] = field(default_factory=set)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            job = self.random.choice(self.jobs)
            try:
                self.go_on(job)
            except Died:
                for other in self.jobs:  # whoever lives on believes what it believed some time before
                    other.believes = self.random.choice(["new", "accepted", other.believes, other.believes])

    def go_on(self, job: Job) -> None:
        """Does a job's next step as it believes it to be; the store decides."""
        try:
            with self.store.transaction() as (ledger, stages):
                job.believes = self._step(job, ledger, stages)
        except ConfideError as error:
            if error.code not in (ErrorCode.BUDGET_EXHAUSTED, ErrorCode.JOB_CONFLICT):
                raise
            job.believes = "refused" if error.code is ErrorCode.BUDGET_EXHAUSTED else "ended"

    def _step(self, job: Job, ledger: Ledger, stages: dict[str, str]) -> str:
        stage = stages.get(job.job_id, "new")
        match job.believes:
            case "refused" if self.random.random() < 0.8:
                return "refused"
            case "new" | "refused":
                ledger.reserve(job.job_id, job.charges, self.caps, NOW, kind="evaluate")
                stages[job.job_id] = stage if stage != "new" else "accepted"
                return "accepted"
            case "accepted" if self.random.random() < 0.7:
                ledger.commit(job.job_id, NOW)
                stages[job.job_id] = "done"
                return "done"
            case "accepted" | "done" if job.believes == "accepted" or (job.fails and self.random.random() < 0.5):
                ledger.refund(job.job_id, NOW)  # of what was committed this gives nothing back
                stages[job.job_id] = "ended"
                return "ended"
            case "done" if stage == "done" and ledger.is_committed(job.job_id, job.charges):
                self._open(job)
                return "done"
            case _:
                return "ended" if stage == "ended" else stage

    def _open(self, job: Job) -> None:
        if job.job_id not in self.paid:
            self.paid.add(job.job_id)
            for account, amount in job.charges.items():
                self.opened[account] += amount

    def overspent(self, entries: Sequence[LedgerEntry]) -> list[str]:
        """Returns every account of which more was opened than its caps permit, or whose ledger ever stood above them."""
        found = [account for account, amount in self.opened.items() if amount.over(self.caps[account])]
        for account, caps in self.caps.items():
            mine = [entry for entry in entries if entry.account == account]
            if any(core.spent(mine[:end]).over(caps) for end in range(1, len(mine) + 1)):
                found.append(account)
        return found


def a_schedule(seed: int, store: Callable[[Callable[[], str]], Store], *, num_jobs: int = 5) -> Schedule:
    """Draws caps, jobs and crashes from a seed."""
    rng = random.Random(seed)

    def crash() -> str:
        return rng.choice(["before", "after"]) if rng.random() < 0.15 else ""

    caps = {
        account: Caps(
            queries=rng.randint(1, 4),
            answers=rng.randint(8, 40),
            epsilon=Decimal(rng.randint(1, 4)) if rng.random() < 0.5 else None,
            delta=None,
        )
        for account in ACCOUNTS
    }
    jobs = [Job(f"{number:032x}", _charges(rng), fails=rng.random() < 0.3) for number in range(num_jobs)]
    return Schedule(rng, store(crash), caps, jobs)


def _charges(rng: random.Random) -> dict[str, Amount]:
    accounts = rng.sample(ACCOUNTS, rng.choice([1, 1, 2, 3]))
    epsilon = Decimal(rng.randint(1, 3000)) / 1000 if rng.random() < 0.7 else None
    return {account: Amount(epsilon, Decimal(0), 1, rng.randint(1, 12)) for account in sorted(accounts)}
