"""How charges compose, whatever they are: never above their sum nor below the largest, in any order, and more by one more."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from governance.budget.amounts import NOTHING, Amount
from governance.budget.ledger import LedgerEntry, Step, spent
from privacy.accounting.composition import Composition
from privacy.accounting.normal_bound import NormalBound
from tests.support.ledgers import NOW

UNITS = ("zero-out row", "zero-out person, 3 row(s)")
PLACES = 12


def a_charge(unit: str, epsilon: Decimal, delta: Decimal, squared: Decimal, excess: Decimal) -> Amount:
    """Claims are never checked here: whatever an owner's ledger holds must compose soundly in these four ways."""
    bound = NormalBound(unit, squared, excess * delta, Decimal("1E-18"))
    return Amount(epsilon, delta, 1, 0, (Composition.of(bound, epsilon=epsilon, delta=delta),))


bounded = st.builds(
    a_charge,
    st.sampled_from(UNITS),
    st.decimals("0.001", 10, places=4),
    st.sampled_from([Decimal("1E-9"), Decimal("1E-5")]) | st.decimals("1E-9", "0.001", places=PLACES),
    st.decimals("1E-6", 4, places=PLACES),
    st.sampled_from([Decimal(0), Decimal("0.004"), Decimal("0.3")]),
)
unbounded = st.builds(lambda epsilon: Amount(epsilon, Decimal("1E-9"), 1, 0), st.decimals("0.001", 10, places=4))
charges = st.lists(bounded | unbounded, min_size=1, max_size=12)


def total(amounts: list[Amount]) -> Decimal:
    found = reduce(Amount.__add__, amounts, NOTHING).composed_epsilon
    assert found is not None
    return found


@given(charges)
def test_composition_lies_between_the_largest_charge_and_the_sum(amounts: list[Amount]) -> None:
    epsilons = [amount.epsilon for amount in amounts if amount.epsilon is not None]
    assert max(epsilons) <= total(amounts) <= sum(epsilons)


@given(charges, st.randoms(use_true_random=False))
def test_composition_does_not_depend_on_the_order_of_charges(amounts: list[Amount], random: object) -> None:
    shuffled = list(amounts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis gives a `random.Random`
    assert total(shuffled) == total(amounts)


@given(charges, bounded | unbounded)
def test_composition_never_falls_by_another_charge(amounts: list[Amount], more: Amount) -> None:
    assert total(amounts) <= total([*amounts, more])


@given(charges)
def test_exact_charge_makes_all_without_bound_and_leaves_counts_as_they_are(amounts: list[Amount]) -> None:
    found = reduce(Amount.__add__, [*amounts, Amount(None, Decimal(0), 1, 5)], NOTHING)
    assert found.composed_epsilon is None
    assert found.queries == len(amounts) + 1


@given(charges, st.data())
def test_refunded_charges_leave_what_the_others_spend(amounts: list[Amount], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(amounts), max_size=len(amounts)))
    entries = [LedgerEntry("a", str(number), Step.RESERVE, amount, NOW, "train") for number, amount in enumerate(amounts)]
    back = [(number, amount) for number, amount in enumerate(amounts) if not kept[number]]
    entries += [LedgerEntry("a", str(number), Step.REFUND, amount, NOW, "train") for number, amount in back]
    left = [amount for amount, is_kept in zip(amounts, kept, strict=True) if is_kept]
    assert spent(entries).composed_epsilon == (total(left) if left else 0)
