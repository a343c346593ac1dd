"""What the audit log says of charges, so that who has nothing but the log can work out where every account stands.

An entry RESERVED holds the charge with the bound by which it composes, the caps that were in force, and at what the account stood
with it; DEBITED and REFUNDED hold the charge alone. BUDGET-REFUSED says of a job that was refused what it needed, and at what the
account would have stood. The stand-alone verifier recomputes them (`parties/auditing/standalone.py`); it shares no code with
this. Names and forms are part of the log's format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from governance.audit.entries import EntryKind, Fact
from governance.budget.amounts import Amount
from governance.budget.ledger import LedgerEntry, Shortfall, Step, spent, spent_with_noise, standing
from governance.policy.budgets import Caps

LOGGED: Mapping[Step, EntryKind] = {
    Step.RESERVE: EntryKind.RESERVED,
    Step.COMMIT: EntryKind.DEBITED,
    Step.REFUND: EntryKind.REFUNDED,
}


def charge_facts(entry: LedgerEntry) -> dict[str, Fact]:
    """Returns the facts of a charge: account, job and its kind, amounts, and the bound; decimals are texts."""
    facts: dict[str, Fact] = {"job": entry.job_id, "account": entry.account, "kind": entry.kind}
    return {**facts, **entry.amount.to_facts(), **bound_facts(entry.amount)}


def bound_facts(amount: Amount) -> dict[str, str | None]:
    """Returns the bound by which an amount of one job composes, as texts; its unit is None if it only adds up.

    A unit is a neighbouring relation and what is protected, with the rows that a person may have.
    """
    for part in amount.parts:  # one at most: a job has one unit on an account
        bound = part.bound
        numbers = {"squared": bound.squared, "excess": bound.excess, "distance": bound.distance}
        return {"unit": bound.unit, **{name: format(number, "f") for name, number in numbers.items()}}
    return dict.fromkeys(("unit", "squared", "excess", "distance"))


def reservation_facts(entry: LedgerEntry, entries: Sequence[LedgerEntry], caps: Caps) -> dict[str, Fact]:
    """Returns the facts of a reservation.

    Args:
        entry: the reservation.
        entries: all of its account, itself among them, in order.
        caps: of the account, that it was checked against.
    """
    return {**charge_facts(entry), **_caps_facts(caps), **_standing_facts(entries)}


def refusal_facts(job_id: str, short: Shortfall, others: Sequence[LedgerEntry]) -> dict[str, Fact]:
    """Returns the facts of an account that did not cover a job.

    Args:
        job_id: the job, or enquiry.
        short: what it needed, and the caps.
        others: all entries of the account but the job's own, in order.
    """
    facts: dict[str, Fact] = {"job": job_id, "account": short.account, "kind": short.kind}
    charge = {**short.amount.to_facts(), **bound_facts(short.amount)}
    return {**facts, **charge, **_caps_facts(short.caps), **_standing_facts(others), "over": sorted(short.over)}


def _caps_facts(caps: Caps) -> Mapping[str, Fact]:
    return {
        "cap_epsilon": None if caps.epsilon is None else format(caps.epsilon, "f"),
        "cap_delta": None if caps.delta is None else format(caps.delta, "f"),
        "cap_queries": caps.queries,
        "cap_answers": caps.answers,
        "permits": list(caps.permits),
    }


def _standing_facts(entries: Sequence[LedgerEntry]) -> Mapping[str, Fact]:
    """At what an account stands: epsilon of what has a bound, composed and added up, and by which kinds of jobs some has none."""
    total, noisy = spent(entries), spent_with_noise(entries)
    epsilon = {"stands_epsilon": noisy.composed_epsilon, "stands_added": noisy.epsilon}
    unbounded = sorted({entry.kind for entry, amount in standing(entries) if amount.epsilon is None})
    return {
        **{name: None if value is None else format(value, "f") for name, value in epsilon.items()},
        "stands_delta": format(total.delta, "f"),
        "stands_queries": total.queries,
        "stands_answers": total.answers,
        "stands_unbounded": unbounded,
    }
