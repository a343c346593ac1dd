"""The places of the public port: strangers make room, members stay, and nobody has them all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.transport.places import TURN_S, Places, source_of

MOST, SHARE = 16, 4
MEMBER = "hospital-b"
LATER = TURN_S  # all that came at 0 have had their turn


def filled(*sources: str, most: int = MOST) -> Places[int]:
    """Places with a stranger from each source at time 0, numbered in their order; nobody had to go."""
    places: Places[int] = Places(most)
    for number, source in enumerate(sources):
        assert places.enter(number, source, now=0.0) is None
    return places


def came(places: Places[int], *sources: str, now: float, first: int = 100) -> list[int | None]:
    """Who had to go when strangers came from these sources."""
    return [places.enter(first + number, source, now=now) for number, source in enumerate(sources)]


def test_newcomer_takes_a_free_place() -> None:
    assert came(filled("a"), "b", now=0.0) == [None]


def test_source_with_its_share_loses_its_oldest_though_places_are_free() -> None:
    places = filled(*["a"] * SHARE)
    assert came(places, "a", "a", "b", now=LATER) == [0, 1, None]


@pytest.mark.parametrize("sources", ["aaaa", "abcdefghijklmnop"])
def test_stranger_has_its_turn_before_it_makes_room(sources: str) -> None:
    places = filled(*sources)
    assert places.enter(100, "a", now=LATER * 0.99) == 100
    assert places.enter(100, "a", now=LATER) == 0
    assert places.enter(101, "a", now=LATER) == 1


def test_full_port_takes_the_oldest_of_the_source_with_most_strangers_at_once() -> None:
    places = filled(*"aabbbccddeeffggh")
    assert came(places, "i", now=0.0) == [2]  # the first of b


def test_few_connections_at_once_from_one_source_are_no_flood() -> None:
    """A member that starts, while every other place is held by a stranger of its own."""
    places = filled(*["a"] * 5, *(f"b {number}" for number in range(1024 - 5)), most=1024)
    assert came(places, "c", now=0.0, first=5000) == [5000]
    places = filled(*["a"] * 6, *(f"b {number}" for number in range(1024 - 6)), most=1024)
    assert came(places, "c", now=0.0, first=5000) == [0]


def test_newcomer_from_a_source_with_as_many_waits_for_the_turn_of_the_oldest() -> None:
    places = filled(*"aabbbccddeeffggh")
    assert came(places, "b", "g", now=0.0) == [100, 101]
    assert came(places, "c", "g", now=LATER) == [0, 1]


def test_strangers_from_many_sources_go_in_the_order_in_which_they_came() -> None:
    places = filled(*map(str, range(MOST)))
    assert came(places, *"abcde", now=LATER) == [0, 1, 2, 3, 4]


def test_member_keeps_its_place() -> None:
    places = filled("a", *["b"] * SHARE)
    places.settle(0, MEMBER)
    assert came(places, *"aaaaa", now=LATER) == [None] * SHARE + [104]
    assert 0 not in came(places, *map(str, range(3 * MOST)), now=3 * LATER, first=200)


def test_member_beyond_its_share_is_counted_as_a_stranger() -> None:
    places = filled(*map(str, range(SHARE + 1)))
    for number in range(SHARE + 1):
        places.settle(number, MEMBER)
    left = set(came(places, *(f"new {number}" for number in range(2 * MOST)), now=LATER))
    assert left & set(range(SHARE + 1)) == {SHARE}


def test_place_that_a_member_leaves_counts_no_longer() -> None:
    places = filled(*map(str, range(SHARE)))
    for number in range(SHARE):
        places.settle(number, MEMBER)
    places.leave(0)
    assert places.enter(50, "x", now=0.0) is None
    places.settle(50, MEMBER)
    assert 50 not in came(places, *(f"new {number}" for number in range(2 * MOST)), now=LATER)


def test_port_full_of_members_refuses_the_newcomer() -> None:
    places = filled(*map(str, range(MOST)))
    for number in range(MOST):
        places.settle(number, f"member {number // SHARE}")
    assert places.enter(99, "x", now=LATER) == 99
    places.leave(3)
    assert places.enter(99, "x", now=LATER) is None


def test_connection_that_has_lost_its_place_is_not_settled_and_leaves_nothing() -> None:
    places = filled(*["a"] * SHARE)
    assert places.enter(9, "a", now=LATER) == 0
    places.settle(0, MEMBER)
    places.leave(0)
    assert places.enter(10, "a", now=LATER) == 1


def test_fewest_places_have_room_for_a_stranger() -> None:
    assert came(filled("a", most=1), "b", now=LATER) == [0]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "settle", "leave"]), st.integers(0, 40), st.integers(0, 5), st.sampled_from([0.0, 0.5])
        ),
        max_size=150,
    )
)
def test_whatever_happens_shares_hold_members_stay_and_nothing_is_left(steps: list[tuple[str, int, int, float]]) -> None:
    places: Places[int] = Places(12)
    share, here, settled, now = 3, dict[int, str](), dict[int, int](), 0.0
    for entered, (what, connection, who, after) in enumerate(steps):
        now += after * TURN_S
        if what == "enter":
            leaving = places.enter(entered, f"source {who}", now=now)
            assert leaving not in settled
            if leaving != entered:
                here[entered] = f"source {who}"
                here.pop(-1 if leaving is None else leaving, None)
            else:
                assert len(here) == 12 or list(here.values()).count(f"source {who}") >= share
        elif here:
            connection = sorted(here)[connection % len(here)]
            if what == "leave":
                places.leave(connection)
                del here[connection]
                settled.pop(connection, None)
            else:
                places.settle(connection, who)
                if connection not in settled and list(settled.values()).count(who) < share:
                    settled[connection] = who
        assert len(here) <= 12
        strangers = [source for connection, source in here.items() if connection not in settled]
        assert all(strangers.count(source) <= share for source in strangers)
    for connection in here:
        places.leave(connection)
    assert (places._places, places._strangers, places._oldest_first, dict(places._members)) == ({}, {}, {}, {})


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_source_is_the_address_or_its_network(host: str, source: str) -> None:
    assert source_of(host) == source
