"""The budget ledger on disk: every step reads, decides and adds in the caller's transaction, with its entry in the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from governance.audit.entries import EntryKind, Fact
from governance.budget import ledger as core
from governance.budget.amounts import Amount
from governance.budget.facts import LOGGED, bound_facts, charge_facts, refusal_facts, reservation_facts
from governance.budget.ledger import LedgerEntry, Shortfall, Step
from governance.policy.budgets import Caps
from parties.storage.audit_log import AuditStore
from parties.storage.ledger_tables import CapsRow, LedgerRow
from privacy.accounting.composition import Composition
from privacy.accounting.normal_bound import NormalBound


@dataclass(frozen=True)
class CapsRecord:
    """Caps that a person has set for an account.

    Attributes:
        account: the account.
        caps: the most that may ever be spent on it.
        authorisation: digest of what she signed, 64 hexadecimal digits.
        time: when, UTC.
    """

    account: str
    caps: Caps
    authorisation: str
    time: datetime


class LedgerStore:
    """The ledger in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._audit = AuditStore(session)

    def shortfalls(
        self, job_id: str, charges: Mapping[str, Amount], caps: Mapping[str, Caps], *, kind: str
    ) -> tuple[Shortfall, ...]:
        """Returns the accounts that would not cover a job now; see `governance.budget.ledger.shortfalls`."""
        return core.shortfalls(self._touched(job_id, charges), job_id=job_id, kind=kind, charges=charges, caps=caps)

    def note_refusal(self, job_id: str, found: Sequence[Shortfall], now: datetime) -> None:
        """Appends to the audit log which accounts did not cover a job, with their figures."""
        for short in found:
            others = [entry for entry in self.of_account(short.account) if entry.job_id != job_id]
            self._audit.append(EntryKind.BUDGET_REFUSED, refusal_facts(job_id, short, others), now=now)

    def reserve(self, job_id: str, charges: Mapping[str, Amount], caps: Mapping[str, Caps], now: datetime, *, kind: str) -> None:
        """Sets a job's charges aside; again changes nothing.

        Args:
            job_id: the job.
            charges: by account.
            caps: of every charged account.
            now: the time, UTC.
            kind: the job's type, or `enquiry`.

        Raises:
            ConfideError: BUDGET_EXHAUSTED (the owner's limit), with every cap that would be broken; JOB_CONFLICT (ours).
        """
        touched = self._touched(job_id, charges)
        for entry in core.reserve(touched, job_id=job_id, kind=kind, charges=charges, caps=caps, now=now):
            mine = [*(each for each in touched if each.account == entry.account), entry]
            self._add_one(entry, reservation_facts(entry, mine, caps[entry.account]))

    def commit(self, job_id: str, now: datetime) -> None:
        """Spends what a job has reserved; again, or without a reservation, changes nothing.

        Raises:
            ConfideError: JOB_CONFLICT (ours): it has been refunded.
        """
        self._add(core.commit(self.of_job(job_id), job_id=job_id, now=now))

    def refund(self, job_id: str, now: datetime) -> None:
        """Makes available what a job has reserved and not committed; again, or without a reservation, changes nothing."""
        self._add(core.refund(self.of_job(job_id), job_id=job_id, now=now))

    def settle(self, job_id: str, used: Mapping[str, Amount], now: datetime) -> None:
        """Spends a part of what a job has reserved and makes the rest available; again, or without a reservation, nothing.

        Raises:
            ConfideError: INTERNAL (ours): more is used than was reserved.
        """
        self._add(core.settle(self.of_job(job_id), job_id=job_id, used=used, now=now))

    def is_committed(self, job_id: str, charges: Mapping[str, Amount]) -> bool:
        """Returns whether all of a job's charges are spent."""
        return core.is_committed(self.of_job(job_id), job_id=job_id, charges=charges)

    def of_job(self, job_id: str) -> tuple[LedgerEntry, ...]:
        """Returns a job's entries, in order."""
        return self._entries(select(LedgerRow).where(LedgerRow.job_id == job_id))

    def all(self) -> tuple[LedgerEntry, ...]:
        """Returns every entry, in order."""
        return self._entries(select(LedgerRow))

    def of_account(self, account: str) -> tuple[LedgerEntry, ...]:
        """Returns an account's entries, in order."""
        return self._entries(select(LedgerRow).where(LedgerRow.account == account))

    def accounts(self) -> tuple[str, ...]:
        """Returns every account with entries or caps of its own, in order."""
        charged = self._session.scalars(select(LedgerRow.account).distinct())
        return tuple(sorted({*charged, *self._session.scalars(select(CapsRow.account).distinct())}))

    def set_caps(self, account: str, caps: Caps, *, authorisation: str, now: datetime) -> None:
        """Sets the caps of one account, above those of the policy; the digest names the signed document that permits it."""
        values = caps.to_document() | {"permits": " ".join(caps.permits)}
        self._session.add(CapsRow(account=account, authorisation=authorisation, time=now, **values))
        self._session.flush()

    def find_caps(self, account: str) -> CapsRecord | None:
        """Returns the caps that a person has set for an account last, or None."""
        query = select(CapsRow).where(CapsRow.account == account).order_by(CapsRow.number.desc()).limit(1)
        row = self._session.scalar(query)
        if row is None:
            return None
        caps = Caps(row.queries, row.answers, _decimal(row.epsilon), _decimal(row.delta), tuple(row.permits.split()))
        return CapsRecord(row.account, caps, row.authorisation, row.time)

    def _touched(self, job_id: str, charges: Mapping[str, Amount]) -> tuple[LedgerEntry, ...]:
        return self._entries(select(LedgerRow).where(or_(LedgerRow.account.in_(list(charges)), LedgerRow.job_id == job_id)))

    def _entries(self, query: Select[LedgerRow]) -> tuple[LedgerEntry, ...]:
        rows = self._session.scalars(query.order_by(LedgerRow.number))
        return tuple(_entry(row) for row in rows)

    def _add(self, entries: tuple[LedgerEntry, ...]) -> None:
        for entry in entries:
            self._add_one(entry, charge_facts(entry))

    def _add_one(self, entry: LedgerEntry, facts: Mapping[str, Fact]) -> None:
        row = LedgerRow(account=entry.account, job_id=entry.job_id, step=entry.step.value, kind=entry.kind, time=entry.time)
        for name, value in {**entry.amount.to_facts(), **bound_facts(entry.amount)}.items():
            setattr(row, name, value)
        self._session.add(row)
        self._session.flush()
        self._audit.append(LOGGED[entry.step], facts, now=entry.time)


def _entry(row: LedgerRow) -> LedgerEntry:
    epsilon, delta = _decimal(row.epsilon), Decimal(row.delta)
    parts: tuple[Composition, ...] = ()
    if epsilon is not None and row.unit is not None:
        bound = NormalBound(row.unit, *(Decimal(text or 0) for text in (row.squared, row.excess, row.distance)))
        parts = (Composition.of(bound, epsilon=epsilon, delta=delta),)
    amount = Amount(epsilon, delta, row.queries, row.answers, parts)
    return LedgerEntry(row.account, row.job_id, Step(row.step), amount, row.time, row.kind)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
