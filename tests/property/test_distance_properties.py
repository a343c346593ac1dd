"""Whatever numbers of the ring a querier shares, those samples are near that the rule in whole numbers says, and no other."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.job import Output, OutputKind
from protocols.mpc.engine import Engine, Steps
from protocols.mpc.inputs import shared_rows
from protocols.mpc.primitives.comparison import nonnegative
from protocols.mpc.programs.distance import largest_square, objections
from tests.support.mpc_world import run_protocol, split

UNIT = 1 << 16
END = 1 << 63
# Within the ranges and at their ends, anywhere in the ring, at its ends, and where squares vanish modulo 2^64.
FEATURES = st.one_of(
    st.integers(-UNIT, UNIT),
    st.integers(-UNIT - 2, -UNIT + 2),
    st.integers(UNIT - 2, UNIT + 2),
    st.integers(-END, END - 1),
    st.integers(END - 2 * UNIT, END - 1),
    st.integers(-END, -END + 2 * UNIT),
    st.integers(-31, 30).map(lambda number: number << 32),
)
DISTANCES = st.integers(1, 1000).map(lambda number: f"{number / 1000:.3f}")


@settings(max_examples=120, deadline=None)
@given(
    rows=st.integers(1, 6).flatmap(
        lambda width: st.lists(st.lists(FEATURES, min_size=width, max_size=width), min_size=1, max_size=8)
    ),
    beyond=DISTANCES,
    num_parties=st.integers(2, 3),
)
def test_samples_are_near_exactly_where_whole_numbers_say_so(rows: list[list[int]], beyond: str, num_parties: int) -> None:
    output = Output("answer", OutputKind.LABEL, "researcher", abstain_beyond=beyond)

    def protocol(engine: Engine, mine: list[np.ndarray]) -> Steps[np.ndarray]:
        counts = yield from objections(engine, shared_rows(mine[0], for_session=False), output)
        return (yield from nonnegative(engine, -counts))

    found = run_protocol(protocol, [[share] for share in split(np.array(rows, np.int64), num_parties)]).value
    largest = Fraction(beyond) ** 2 * len(rows[0]) * UNIT**2
    expected = [all(abs(x) <= UNIT for x in row) and sum(x * x for x in row) <= largest for row in rows]
    assert np.asarray(found)[:, 0].tolist() == expected


@given(beyond=DISTANCES, width=st.integers(1, 1 << 20))
def test_bound_is_the_largest_whole_number_that_the_distance_permits_and_stays_in_the_ring(beyond: str, width: int) -> None:
    most = largest_square(Output("answer", OutputKind.LABEL, "researcher", abstain_beyond=beyond), width)
    exact = Fraction(beyond) ** 2 * width * UNIT**2
    assert most <= exact < most + 1
    # Both terms of the difference that is compared are below 2^53.
    assert 0 <= most <= width * UNIT**2 < 1 << 53
