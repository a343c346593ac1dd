"""The budget ledger: an append-only list of entries, and the only four ways to lengthen it.

    reserve    before a party countersigns a job: so much is set aside
    commit     with the party's vote that the job is done, before anything is opened: it is spent for good
    refund     with the job's end, unless it was committed: it is available again
    settle     with the end of a serving: what it used is committed, the rest of what it reserved is refunded

What is reserved counts as spent until it is refunded. So a crash at any point can waste budget, never create it: between reserve
and commit nothing has been opened, and a job whose party never comes back stays reserved. Each step is idempotent per job: a
runner repeats steps after a crash.

Pure: these functions say which entries a step adds; a store adds them in the transaction of the step itself, after reading the
entries in the same transaction. `parties/storage/ledger.py` does that on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import reduce

from governance.budget.amounts import NOTHING, WITHOUT_NOISE, Amount, dataset_account
from governance.policy.budgets import Caps
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job_parts import JobType

_DATASETS = dataset_account("")
_BY_ROWS = (JobType.EVALUATE.value, JobType.ASSESS.value)  # which ask a model by rows that owners bring


class Step(Enum):
    """What an entry records; the value is stored."""

    RESERVE = "reserve"
    COMMIT = "commit"
    REFUND = "refund"


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger; public among the owner's people.

    Attributes:
        account: what is charged.
        job_id: by which job.
        step: what happened to the charge.
        amount: of the charge; the same in all entries of one job and account, unless it is settled in parts.
        time: when, UTC.
        kind: of the job: its type, or `enquiry`; the same in all entries of one job.
    """

    account: str
    job_id: str
    step: Step
    amount: Amount
    time: datetime
    kind: str


@dataclass(frozen=True)
class Shortfall:
    """An account that does not cover a job; its figures are for the owner's people, and only `problems` for who asks.

    Attributes:
        account: that would be charged.
        kind: of the job, as of an entry.
        amount: what the job needs of it.
        total: at what the account would stand with the job.
        caps: the most that may ever be spent on it.
        over: in which ways that is more than its caps, by measure, in words with figures.
    """

    account: str
    kind: str
    amount: Amount
    total: Amount
    caps: Caps
    over: Mapping[str, str]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What the querier is told, one for each measure: her own need, and nothing of what others have used or may use."""
        return tuple(Problem(f"budget.{self.account}", *self._told(measure)) for measure in self.over)

    @property
    def in_words(self) -> str:
        """What the owner's people are told."""
        return f"{self.account}: with this job {', '.join(self.over.values())}"

    def _told(self, measure: str) -> tuple[str, str]:
        amount = self.amount
        if measure == "epsilon" and amount.epsilon is None and self.kind in _BY_ROWS and not self.account.startswith(_DATASETS):
            what = f"noise on what is opened of rows hides no model, and its holder permits no {self.kind} under a cap on epsilon"
            return what, "ask its holder to permit it beside the cap on epsilon"
        if measure == "epsilon" and amount.epsilon is None:
            what = f"the job opens something without noise, and its owner permits no {self.kind} without it"
            return what, "ask with noise, or ask its owner to permit it beside the cap on epsilon"
        needs = {
            "epsilon": f"epsilon {amount.epsilon:f}" if amount.epsilon is not None else "",
            "delta": f"delta {amount.delta:f}",
            "queries": f"{amount.queries} of its queries",
            "answers": f"{amount.answers} of its answers",
        }
        what = f"the job needs {needs[measure]}, and what is left does not suffice"
        return what, f"use less of it, or ask its owner, whose people see how it stands: confide budget show {self.account}"


def spent(entries: Iterable[LedgerEntry]) -> Amount:
    """Returns what is reserved or committed, over all entries given, of one account."""
    return reduce(Amount.__add__, (amount for _, amount in standing(entries)), NOTHING)


def spent_with_noise(entries: Iterable[LedgerEntry]) -> Amount:
    """Returns what of `spent` has a bound on epsilon: what was opened without noise is left out."""
    return reduce(Amount.__add__, (amount for _, amount in standing(entries) if amount.epsilon is not None), NOTHING)


def spent_under(entries: Iterable[LedgerEntry], caps: Caps) -> Amount:
    """Returns what of `spent` counts against caps: what is permitted without noise beside one on epsilon spends none of it."""
    return reduce(Amount.__add__, (_counted(amount, entry.kind, caps) for entry, amount in standing(entries)), NOTHING)


def shortfalls(
    entries: Sequence[LedgerEntry],
    *,
    job_id: str,
    kind: str,
    charges: Mapping[str, Amount],
    caps: Mapping[str, Caps],
) -> tuple[Shortfall, ...]:
    """Returns the accounts that do not cover a job, all of them; what the job itself has reserved does not count twice.

    Args:
        entries: all entries of the charged accounts, in order.
        job_id: the job.
        kind: its type, or `enquiry`.
        charges: by account.
        caps: of every charged account.

    Raises:
        ConfideError: INTERNAL (ours): an account without caps.
    """
    found = []
    for account, amount in charges.items():
        if account not in caps:
            raise ConfideError(ErrorCode.INTERNAL, f"account {account} has no caps")
        others, counted = _others(entries, account, job_id), _counted(amount, kind, caps[account])
        total = spent_under(others, caps[account]) + counted
        why = WITHOUT_NOISE if counted.epsilon is None else _spent_before(others, caps[account])
        if over := total.over(caps[account], without_bound=why):
            found.append(Shortfall(account, kind, amount, total, caps[account], over))
    return tuple(found)


def _others(entries: Iterable[LedgerEntry], account: str, job_id: str) -> list[LedgerEntry]:
    return [entry for entry in entries if entry.account == account and entry.job_id != job_id]


def reserve(
    entries: Sequence[LedgerEntry],
    *,
    job_id: str,
    kind: str,
    charges: Mapping[str, Amount],
    caps: Mapping[str, Caps],
    now: datetime,
) -> tuple[LedgerEntry, ...]:
    """Returns the entries that set a job's charges aside; none if it has done so before.

    Args:
        entries: all entries of the charged accounts and of the job, in order.
        job_id: the job.
        kind: its type, or `enquiry`.
        charges: by account.
        caps: of every charged account.
        now: the time, UTC.

    Raises:
        ConfideError: BUDGET_EXHAUSTED (the owner's limit), with every cap that would be broken; JOB_CONFLICT (ours): the job
            has reserved other charges, or its charges are settled.
    """
    before = {entry.account: entry.amount for entry in entries if entry.job_id == job_id and entry.step is Step.RESERVE}
    settled = any(entry.job_id == job_id and entry.step is not Step.RESERVE for entry in entries)
    if settled or (before and before != dict(charges)):
        raise ConfideError(ErrorCode.JOB_CONFLICT, f"the charges of job {job_id} are settled, or were others")
    if before:
        return ()
    found = shortfalls(entries, job_id=job_id, kind=kind, charges=charges, caps=caps)
    if found:
        told = [problem for shortfall in found for problem in shortfall.problems]
        raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, f"{len(found)} budget(s) do not suffice", problems=told)
    return tuple(LedgerEntry(account, job_id, Step.RESERVE, amount, now, kind) for account, amount in charges.items())


def commit(entries: Sequence[LedgerEntry], *, job_id: str, now: datetime) -> tuple[LedgerEntry, ...]:
    """Returns the entries that spend what a job has reserved; none if it has done so before, or has reserved nothing.

    Args:
        entries: all entries of the job, in order.
        job_id: the job.
        now: the time, UTC.

    Raises:
        ConfideError: JOB_CONFLICT (ours): it has been refunded.
    """
    if any(entry.step is Step.REFUND for entry in _of(entries, job_id)):
        raise ConfideError(ErrorCode.JOB_CONFLICT, f"the charges of job {job_id} have been refunded")
    return _settle(entries, job_id, Step.COMMIT, now)


def refund(entries: Sequence[LedgerEntry], *, job_id: str, now: datetime) -> tuple[LedgerEntry, ...]:
    """Returns the entries that make available what a job has reserved and not committed; none if there is nothing.

    Args:
        entries: all entries of the job, in order.
        job_id: the job.
        now: the time, UTC.
    """
    return _settle(entries, job_id, Step.REFUND, now)


def settle(entries: Sequence[LedgerEntry], *, job_id: str, used: Mapping[str, Amount], now: datetime) -> tuple[LedgerEntry, ...]:
    """Returns the entries that spend a part of what a job has reserved and give back the rest; none if it is settled already.

    Args:
        entries: all entries of the job, in order.
        job_id: the job.
        used: the part that is spent, by account; an account that is not named, or of which nothing is used, gets all back.
        now: the time, UTC.

    Raises:
        ConfideError: INTERNAL (ours): more is used than was reserved.
    """
    found: list[LedgerEntry] = []
    for entry in _pending(entries, job_id):
        part = used.get(entry.account)
        if part is None or (part.queries, part.answers) == (0, 0):
            found.append(LedgerEntry(entry.account, job_id, Step.REFUND, entry.amount, now, entry.kind))
            continue
        rest = entry.amount.less(part)
        found.append(LedgerEntry(entry.account, job_id, Step.COMMIT, part, now, entry.kind))
        if (rest.queries, rest.answers) != (0, 0):
            found.append(LedgerEntry(entry.account, job_id, Step.REFUND, rest, now, entry.kind))
    return tuple(found)


def is_committed(entries: Sequence[LedgerEntry], *, job_id: str, charges: Mapping[str, Amount]) -> bool:
    """Returns whether all of a job's charges are spent, so that what they pay for may be opened."""
    done = {entry.account: entry.amount for entry in _of(entries, job_id) if entry.step is Step.COMMIT}
    return done == dict(charges)


def _settle(entries: Sequence[LedgerEntry], job_id: str, step: Step, now: datetime) -> tuple[LedgerEntry, ...]:
    return tuple(LedgerEntry(entry.account, job_id, step, entry.amount, now, entry.kind) for entry in _pending(entries, job_id))


def _pending(entries: Iterable[LedgerEntry], job_id: str) -> list[LedgerEntry]:
    mine = _of(entries, job_id)
    settled = {entry.account for entry in mine if entry.step is not Step.RESERVE}
    return [entry for entry in mine if entry.step is Step.RESERVE and entry.account not in settled]


def _of(entries: Iterable[LedgerEntry], job_id: str) -> list[LedgerEntry]:
    return [entry for entry in entries if entry.job_id == job_id]


def _counted(amount: Amount, kind: str, caps: Caps) -> Amount:
    is_permitted = amount.epsilon is None and caps.epsilon is not None and kind in caps.permits
    return amount.without_epsilon() if is_permitted else amount


def _spent_before(entries: Iterable[LedgerEntry], caps: Caps) -> str:
    """Why an account has no bound on epsilon, though the job at hand has one; empty if it has one."""
    counted = ((entry.kind, _counted(amount, entry.kind, caps)) for entry, amount in standing(entries))
    kinds = sorted({kind for kind, amount in counted if amount.epsilon is None})
    return f"spent before this job, which opens nothing without noise; by {', '.join(kinds)}" if kinds else ""


def standing(entries: Iterable[LedgerEntry]) -> Iterable[tuple[LedgerEntry, Amount]]:
    """Yields what counts of each job's charge, committed or not: what was reserved, less what was refunded."""
    listed = list(entries)
    refunded = {(entry.account, entry.job_id): entry.amount for entry in listed if entry.step is Step.REFUND}
    for entry in listed:
        back = refunded.get((entry.account, entry.job_id))
        if entry.step is Step.RESERVE and back != entry.amount:
            yield entry, entry.amount if back is None else entry.amount.less(back)
