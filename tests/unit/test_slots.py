"""The party's slots: never more than there is room for, a fair order, nobody starves."""

from __future__ import annotations

from parties.server.slots import FORGET_S, PATIENCE_S, Applicant, Claim, Need, Slots

SMALL, LARGE = Need(1, 1 << 20), Need(1, 4 << 20)
A, B, C = Claim("a", 1), Claim("b", 1), Claim("c", 1)


def an_applicant(claim: Claim, *, need: Need = SMALL, querier: str = "alice", created: float = 0.0) -> Applicant:
    return Applicant(claim.job_id, querier, created, need)


def slots_for(sessions: int) -> Slots:
    """Room for so many small sessions."""
    return Slots(Need(sessions, sessions << 20))


def ask(slots: Slots, claim: Claim, *, now: float = 0.0, not_before: float = 0.0, **changes: object) -> None:
    applicant = an_applicant(claim, **changes)  # type: ignore[arg-type]  # tests name the fields
    slots.request(claim, applicant, now=now, not_before=not_before)


def attempt(slots: Slots, claim: Claim, *, now: float = 0.0, **changes: object) -> bool:
    return slots.attempt(claim, an_applicant(claim, **changes), now=now)  # type: ignore[arg-type]


def granted(slots: Slots, now: float) -> list[Claim]:
    """Everything that is granted at a time, one after the other; each gives its slot back at once."""
    order = []
    while (claim := slots.grant(now)) is not None:
        order.append(claim)
        slots.release(claim)
    return order


def test_attempt_free_room_is_taken_and_a_second_claim_refused() -> None:
    slots = slots_for(1)
    assert attempt(slots, A)
    assert not attempt(slots, B)
    assert attempt(slots, A)
    assert (slots.num_held, slots.held) == (1, SMALL)


def test_attempt_after_release_succeeds() -> None:
    slots = slots_for(1)
    attempt(slots, A)
    slots.release(A)
    assert attempt(slots, B)


def test_attempt_two_sessions_fit_by_cores_and_not_by_memory() -> None:
    slots = Slots(Need(2, 5 << 20))
    assert attempt(slots, A, need=LARGE)
    assert not attempt(slots, B, need=LARGE)
    assert attempt(slots, C, need=SMALL)


def test_attempt_session_that_only_brings_rows_needs_no_core() -> None:
    slots = Slots(Need(1, 8 << 20))
    assert attempt(slots, A)
    assert attempt(slots, B, need=Need(0, 1 << 20))


def test_grant_one_querier_s_claims_come_the_oldest_first() -> None:
    slots = slots_for(1)
    for claim, created in ((B, 2.0), (A, 1.0), (C, 3.0)):
        ask(slots, claim, created=created)
    assert granted(slots, 1) == [A, B, C]


def test_grant_queriers_take_turns_however_many_jobs_one_of_them_submits() -> None:
    slots = slots_for(1)
    for number in range(4):
        ask(slots, Claim(f"flood-{number}", 1), querier="alice", created=number)
    ask(slots, B, querier="bob", created=10)
    ask(slots, C, querier="carol", created=11)
    assert granted(slots, 1)[:3] == [Claim("flood-0", 1), B, C]


def test_grant_claim_that_backs_off_lets_others_pass() -> None:
    slots = slots_for(1)
    ask(slots, A, not_before=10)
    ask(slots, B, created=1)
    assert slots.next_time(5) == 10
    assert slots.grant(5) == B
    slots.release(B)
    assert slots.grant(5) is None
    assert slots.grant(10) == A
    assert slots.next_time(10) is None


def test_grant_no_room_gives_nothing() -> None:
    slots = slots_for(2)
    assert attempt(slots, A)
    assert attempt(slots, B)
    ask(slots, C)
    assert slots.grant(30) is None


def test_grant_small_jobs_pass_a_large_one_for_a_while_only() -> None:
    slots = slots_for(4)
    large = Claim("large", 1)
    attempt(slots, A)
    ask(slots, large, need=Need(1, 4 << 20), created=1)
    ask(slots, B, created=2)
    assert slots.grant(1) == B
    ask(slots, C, now=PATIENCE_S, created=3)
    assert slots.grant(PATIENCE_S) is None, "a younger claim passed one that has waited"
    assert not attempt(slots, Claim("d", 1), now=PATIENCE_S, created=4), "and so did one that another party leads"
    slots.release(A)
    slots.release(B)
    assert slots.grant(PATIENCE_S) == large


def test_grant_older_claim_passes_a_younger_one_that_has_waited() -> None:
    slots = slots_for(4)
    attempt(slots, A)
    ask(slots, B, need=Need(1, 4 << 20), created=5)
    assert attempt(slots, C, now=PATIENCE_S, created=1)


def test_attempt_refused_for_a_while_keeps_room_until_it_comes_again() -> None:
    slots = slots_for(4)
    large = Claim("large", 1)
    attempt(slots, A)
    for now in range(0, int(PATIENCE_S) + 1, 10):
        assert not attempt(slots, large, now=now, need=Need(1, 4 << 20), created=1)
    ask(slots, B, now=PATIENCE_S, created=2)
    slots.release(A)
    assert slots.grant(PATIENCE_S + 1) is None
    assert attempt(slots, large, now=PATIENCE_S + 2, need=Need(1, 4 << 20), created=1)


def test_attempt_refused_that_never_comes_again_is_forgotten() -> None:
    slots = slots_for(4)
    attempt(slots, A)
    for now in (0, PATIENCE_S):
        assert not attempt(slots, Claim("large", 1), now=now, need=Need(1, 4 << 20), created=1)
    ask(slots, B, now=PATIENCE_S, created=2)
    assert slots.grant(PATIENCE_S + FORGET_S) is None
    assert slots.grant(PATIENCE_S + FORGET_S + 1) == B


def test_release_waiting_claim_leaves_the_queue() -> None:
    slots = slots_for(1)
    ask(slots, A)
    slots.release(A)
    assert slots.grant(1) is None
    assert slots.num_waiting == 0


def test_release_unknown_claim_changes_nothing() -> None:
    slots = slots_for(1)
    attempt(slots, A)
    slots.release(Claim("a", 2))
    assert not attempt(slots, B)


def test_forget_session_frees_all_its_claims_and_its_place() -> None:
    slots = slots_for(1)
    attempt(slots, A)
    ask(slots, Claim("a", 2))
    slots.forget("a")
    assert (slots.num_held, slots.num_waiting) == (0, 0)
    assert attempt(slots, B)


def test_request_again_under_another_ticket_is_another_claim() -> None:
    slots = slots_for(2)
    ask(slots, A)
    ask(slots, Claim("a", 2))
    assert {slots.grant(0), slots.grant(0)} == {A, Claim("a", 2)}


def test_request_of_the_same_claim_again_waits_once() -> None:
    slots = slots_for(2)
    ask(slots, A)
    ask(slots, A, not_before=5)
    assert slots.grant(4) is None
    assert slots.grant(5) == A
    assert slots.grant(5) is None
