"""The party's slots: never more than there are, first come first served, nothing lost."""

from __future__ import annotations

from parties.server.slots import Claim, Slots

A, B, C = Claim("a", 1), Claim("b", 1), Claim("c", 1)


def test_attempt_free_slot_is_taken_and_a_second_claim_refused() -> None:
    slots = Slots(1)
    assert slots.attempt(A)
    assert not slots.attempt(B)
    assert slots.attempt(A)


def test_attempt_after_release_succeeds() -> None:
    slots = Slots(1)
    slots.attempt(A)
    slots.release(A)
    assert slots.attempt(B)


def test_grant_waiting_claims_come_in_their_order() -> None:
    slots = Slots(1)
    for claim in (B, A, C):
        slots.request(claim, not_before=0)
    granted = []
    while (claim := slots.grant(1)) is not None:
        granted.append(claim)
        slots.release(claim)
    assert granted == [B, A, C]


def test_grant_claim_that_backs_off_lets_others_pass() -> None:
    slots = Slots(1)
    slots.request(A, not_before=10)
    slots.request(B, not_before=0)
    assert slots.next_time() == 0
    assert slots.grant(5) == B
    assert slots.next_time() is None
    slots.release(B)
    assert slots.grant(5) is None
    assert slots.next_time() == 10
    assert slots.grant(10) == A


def test_grant_no_room_gives_nothing() -> None:
    slots = Slots(2)
    assert slots.attempt(A)
    assert slots.attempt(B)
    slots.request(C, not_before=0)
    assert slots.grant(100) is None


def test_release_waiting_claim_leaves_the_queue() -> None:
    slots = Slots(1)
    slots.request(A, not_before=0)
    slots.release(A)
    assert slots.grant(1) is None


def test_release_unknown_claim_changes_nothing() -> None:
    slots = Slots(1)
    slots.attempt(A)
    slots.release(Claim("a", 2))
    assert not slots.attempt(B)


def test_request_again_under_another_ticket_is_another_claim() -> None:
    slots = Slots(2)
    slots.request(A, not_before=0)
    slots.request(Claim("a", 2), not_before=0)
    assert {slots.grant(0), slots.grant(0)} == {A, Claim("a", 2)}


def test_request_of_the_same_claim_again_waits_once() -> None:
    slots = Slots(2)
    slots.request(A, not_before=0)
    slots.request(A, not_before=5)
    assert slots.grant(4) is None
    assert slots.grant(5) == A
    assert slots.grant(5) is None


def test_request_by_a_claim_that_holds_a_slot_takes_no_second_one() -> None:
    slots = Slots(2)
    slots.attempt(A)
    slots.request(A, not_before=0)
    slots.grant(0)
    assert slots.attempt(B)
    slots.release(A)
    assert slots.attempt(C)
