"""What a log says of budgets, for tests: charges of jobs with noise and without, and whole accounts that a ledger has written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from governance.audit.entries import EntryKind, Fact
from governance.budget.amounts import Amount
from governance.budget.facts import charge_facts, reservation_facts
from governance.budget.ledger import LedgerEntry, Step
from governance.policy.budgets import Caps
from privacy.accounting.composition import Composition
from privacy.accounting.normal_bound import UNIT_OF_ROWS, normal_bound
from tests.support.audit_logs import Said
from tests.support.members import NOW

ACCOUNT = "dataset/ward"


def an_amount(epsilon: str | None, *, delta: str = "0.00001", squared: float = 0.0625, unit: str = UNIT_OF_ROWS) -> Amount:
    """A query, with the bound of a normal mechanism, or without noise."""
    if epsilon is None:
        return Amount(None, Decimal(0), 1, 4)
    part = Composition.of(normal_bound(unit, squared=squared), epsilon=Decimal(epsilon), delta=Decimal(delta))
    return Amount(Decimal(epsilon), Decimal(delta), 1, 0, (part,))


def an_entry(job: str, amount: Amount, *, kind: str = "train", step: Step = Step.RESERVE) -> LedgerEntry:
    """A line of a ledger about one account."""
    return LedgerEntry(ACCOUNT, job, step, amount, NOW, kind)


def a_charge(job: str, *, epsilon: str | None) -> Mapping[str, Fact]:
    """The facts of a debit or refund."""
    return charge_facts(an_entry(job, an_amount(epsilon)))


def reserved(*jobs: str, epsilon: str | None = None, caps: Caps | None = None) -> list[Said]:
    """Reservations of equal charges, one after the other, of one account."""
    entries = [an_entry(job, an_amount(epsilon)) for job in jobs]
    return list(log_of(entries, caps or Caps()))


def log_of(entries: Iterable[LedgerEntry], caps: Caps) -> Iterable[Said]:
    """What a log says of the lines of one account's ledger."""
    kinds = {Step.COMMIT: EntryKind.DEBITED, Step.REFUND: EntryKind.REFUNDED}
    before: list[LedgerEntry] = []
    for entry in entries:
        before.append(entry)
        if entry.step is Step.RESERVE:
            yield EntryKind.RESERVED, reservation_facts(entry, before, caps)
        else:
            yield kinds[entry.step], charge_facts(entry)
