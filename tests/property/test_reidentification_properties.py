"""Diversity equals its definition on any small table, masked counts cannot be subtracted, check digits find a wrong digit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.reidentification import check_digits
from privacy.reidentification.coding import CodedColumn
from privacy.reidentification.diversity import diversity
from privacy.reidentification.masking import LEAST, masked_count, masked_parts, masked_share

_TABLES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=60)


def column_of(values: NDArray[np.int64], *, numbers: bool) -> CodedColumn:
    distinct, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return CodedColumn(codes.astype(np.uint8), distinct.astype(np.uint64), counts, distinct / 2.0 if numbers else None, 0)


@given(_TABLES, st.booleans(), st.sampled_from([1, 3, 1 << 20]))
def test_diversity_equals_its_definition(rows: list[tuple[int, int]], numbers: bool, block: int) -> None:
    _, classes = np.unique([owner for owner, _ in rows], return_inverse=True)
    values = np.array([value for _, value in rows], np.int64)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("privacy.reidentification.diversity._BLOCK", block)
        found = diversity("", classes.astype(np.int64), column_of(values, numbers=numbers))
    present = sorted(set(values))
    overall = np.array([np.mean(values == value) for value in present])
    distinct, entropies, distances, single = [], [], [], 0
    for owner in range(int(classes.max()) + 1):
        mine = values[classes == owner]
        shares = np.array([np.mean(mine == value) for value in present])
        held = shares[shares > 0]
        distinct.append(len(held))
        entropies.append(-(held * np.log(held)).sum())
        single += len(mine) if len(held) == 1 else 0
        gap = shares - overall
        if not numbers:
            distances.append(np.abs(gap).sum() / 2)
        elif len(present) > 1:
            distances.append(np.abs(np.cumsum(gap)).sum() / (len(present) - 1))
        else:
            distances.append(0.0)
    assert found.distinct_l == min(distinct)
    assert found.single_valued_rows == single
    # Sums of at most 60 shares, each rounded once.
    assert found.entropy_l == pytest.approx(np.exp(min(entropies)), abs=1e-12)
    assert found.t == pytest.approx(max(distances), abs=1e-12)


@given(st.integers(0, 200), st.integers(0, 200))
def test_masked_count_tells_no_small_group_from_another(part: int, rest: int) -> None:
    total = part + rest
    shown = masked_count(part, total)
    if 0 < part < LEAST or 0 < rest < LEAST:
        small = part if 0 < part < LEAST else total - rest
        assert isinstance(shown, str)
        assert shown == masked_count(small, total)
        assert masked_share(part, total).startswith(shown[0])
    else:
        assert shown == part


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8))
def test_no_masked_part_follows_from_the_others(parts: list[int]) -> None:
    shown = masked_parts(parts)
    hidden = [position for position, value in enumerate(shown) if isinstance(value, str)]
    assert all(value == part for value, part in zip(shown, parts, strict=True) if isinstance(value, int))
    assert all(isinstance(shown[position], str) for position, part in enumerate(parts) if 0 < part < LEAST)
    if len(hidden) == 1:
        # Nothing else stands there that could be hidden too: the table has only these few rows.
        assert sum(part >= LEAST for part in parts) == (parts[hidden[0]] >= LEAST)


@pytest.mark.parametrize(
    ("check", "valid"),
    [
        (check_digits.luhn, "4111111111111111"),
        (check_digits.nhs_number, "9434765919"),
        (check_digits.steuer_id, "86095742719"),
        (check_digits.pesel, "44051401359"),
    ],
)
@given(st.data())
def test_check_digits_find_any_single_wrong_digit(check: Callable[[str], bool], valid: str, data: st.DataObject) -> None:
    assert check(valid)
    position = data.draw(st.integers(0, len(valid) - 1))
    digit = data.draw(st.sampled_from([other for other in "0123456789" if other != valid[position]]))
    assert not check(valid[:position] + digit + valid[position + 1 :])
