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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import reduce

from governance.budget.amounts import NOTHING, WITHOUT_NOISE, Amount
from governance.policy.budgets import Caps
from protocols.errors import ConfideError, ErrorCode, Problem

# Names the types of jobs, by their ids, for people.
TypesOf = Callable[[Sequence[str]], Sequence[str]]


def _unnamed(_job_ids: Sequence[str]) -> Sequence[str]:
    return ()


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
    """

    account: str
    job_id: str
    step: Step
    amount: Amount
    time: datetime


def spent(entries: Iterable[LedgerEntry]) -> Amount:
    """Returns what is reserved or committed, over all entries given, of one account."""
    return reduce(Amount.__add__, (amount for _, amount in _standing(entries)), NOTHING)


def spent_with_noise(entries: Iterable[LedgerEntry]) -> Amount:
    """Returns what of `spent` has a bound on epsilon: what was opened without noise is left out."""
    return reduce(Amount.__add__, (amount for _, amount in _standing(entries) if amount.epsilon is not None), NOTHING)


def problems(
    entries: Sequence[LedgerEntry],
    *,
    job_id: str,
    charges: Mapping[str, Amount],
    caps: Mapping[str, Caps],
    types_of: TypesOf = _unnamed,
) -> tuple[Problem, ...]:
    """Returns which caps a job's charges would break, all of them; what the job itself has reserved does not count twice.

    Args:
        entries: all entries of the charged accounts, in order.
        job_id: the job.
        charges: by account.
        caps: of every charged account.
        types_of: names the types of earlier jobs, asked only where they are why a cap is broken.

    Raises:
        ConfideError: INTERNAL (ours): an account without caps.
    """
    found = []
    for account, amount in charges.items():
        if account not in caps:
            raise ConfideError(ErrorCode.INTERNAL, f"account {account} has no caps")
        others = [entry for entry in entries if entry.account == account and entry.job_id != job_id]
        why = WITHOUT_NOISE if amount.epsilon is None or caps[account].epsilon is None else _spent_before(others, types_of)
        for what in (spent(others) + amount).over(caps[account], without_bound=why):
            remedy = "use less of it, or ask its owner to permit more"
            found.append(Problem(f"budget.{account}", f"with this job {what}", remedy))
    return tuple(found)


def reserve(
    entries: Sequence[LedgerEntry],
    *,
    job_id: str,
    charges: Mapping[str, Amount],
    caps: Mapping[str, Caps],
    types_of: TypesOf = _unnamed,
    now: datetime,
) -> tuple[LedgerEntry, ...]:
    """Returns the entries that set a job's charges aside; none if it has done so before.

    Args:
        entries: all entries of the charged accounts and of the job, in order.
        job_id: the job.
        charges: by account.
        caps: of every charged account.
        types_of: as of `problems`.
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
    found = problems(entries, job_id=job_id, charges=charges, caps=caps, types_of=types_of)
    if found:
        raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, f"{len(found)} budget(s) do not suffice", problems=found)
    return tuple(LedgerEntry(account, job_id, Step.RESERVE, amount, now) for account, amount in charges.items())


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
            found.append(LedgerEntry(entry.account, job_id, Step.REFUND, entry.amount, now))
            continue
        rest = entry.amount.less(part)
        found.append(LedgerEntry(entry.account, job_id, Step.COMMIT, part, now))
        if (rest.queries, rest.answers) != (0, 0):
            found.append(LedgerEntry(entry.account, job_id, Step.REFUND, rest, now))
    return tuple(found)


def is_committed(entries: Sequence[LedgerEntry], *, job_id: str, charges: Mapping[str, Amount]) -> bool:
    """Returns whether all of a job's charges are spent, so that what they pay for may be opened."""
    done = {entry.account: entry.amount for entry in _of(entries, job_id) if entry.step is Step.COMMIT}
    return done == dict(charges)


def _settle(entries: Sequence[LedgerEntry], job_id: str, step: Step, now: datetime) -> tuple[LedgerEntry, ...]:
    return tuple(LedgerEntry(entry.account, job_id, step, entry.amount, now) for entry in _pending(entries, job_id))


def _pending(entries: Iterable[LedgerEntry], job_id: str) -> list[LedgerEntry]:
    mine = _of(entries, job_id)
    settled = {entry.account for entry in mine if entry.step is not Step.RESERVE}
    return [entry for entry in mine if entry.step is Step.RESERVE and entry.account not in settled]


def _of(entries: Iterable[LedgerEntry], job_id: str) -> list[LedgerEntry]:
    return [entry for entry in entries if entry.job_id == job_id]


def _spent_before(entries: Iterable[LedgerEntry], types_of: TypesOf) -> str:
    """Why an account has no bound on epsilon, though the job at hand has one; empty if it has one."""
    jobs = list(dict.fromkeys(job for job, amount in _standing(entries) if amount.epsilon is None))
    if not jobs:
        return ""
    by = ", ".join(sorted(set(types_of(jobs))))
    return f"spent before this job, which opens nothing without noise{f'; by {by}' if by else ''}"


def _standing(entries: Iterable[LedgerEntry]) -> Iterable[tuple[str, Amount]]:
    """What counts of each job's charge, committed or not: what was reserved, less what was refunded."""
    listed = list(entries)
    refunded = {(entry.account, entry.job_id): entry.amount for entry in listed if entry.step is Step.REFUND}
    for entry in listed:
        back = refunded.get((entry.account, entry.job_id))
        if entry.step is Step.RESERVE and back != entry.amount:
            yield entry.job_id, entry.amount if back is None else entry.amount.less(back)
