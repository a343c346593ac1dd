"""Uploads, kept answers, rates and turns: memory is bounded, and no researcher is in another's way."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from itertools import pairwise
from queue import Queue
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.server.encrypted.keepers import Keepers
from parties.server.encrypted.kept import KEPT_FOR, MOST_OF_ENQUIRY, KeptAnswers
from parties.server.encrypted.keys import STALLED_AFTER, Uploads
from parties.server.encrypted.rates import Rate
from parties.server.encrypted.turns import PASSED_OVER, Ticket, next_turn
from protocols.errors import ConfideError, ErrorCode
from tests.support.consent import NOW
from tests.support.refusals import refusal

PART = 1000
UNTIL = NOW + timedelta(hours=1)
WITHIN_S = 30.0


def message(name: str, parts: int = 1) -> tuple[str, bytes]:
    data = hashlib.shake_256(name.encode()).digest(parts * PART)
    return hashlib.sha256(data).hexdigest(), data


def put(uploads: Uploads, owner: str, name: str, parts: int = 1, *, of: int | None = None, enquiry: str = "") -> str:
    """Uploads the first parts of a message."""
    digest, data = message(name, of or parts)
    for offset in range(0, parts * PART, PART):
        part = data[offset : offset + PART]
        uploads.put(owner, digest, total=len(data), offset=offset, data=part, good_until=UNTIL, now=NOW, enquiry=enquiry)
    return digest


def test_whoever_holds_most_loses_what_she_used_longest_ago() -> None:
    lost: list[str] = []
    uploads = Uploads(most_bytes=8 * PART, forgotten=lost.append)
    old, used = put(uploads, "alice", "old", 2), put(uploads, "alice", "used", 2)
    bob = put(uploads, "bob", "bob", 3)
    with uploads.hold("alice", old, now=NOW, once=False):
        pass
    put(uploads, "carol", "carol", 3)
    assert lost == [used]
    assert uploads.received("bob", bob) == 3 * PART


def test_researcher_displaces_only_her_own_beyond_her_half() -> None:
    uploads = Uploads(most_bytes=8 * PART)
    bob, first, second = put(uploads, "bob", "b", 2), put(uploads, "alice", "1", 2), put(uploads, "alice", "2", 2)
    third = put(uploads, "alice", "3", 2)
    sizes = [uploads.received("alice", digest) for digest in (first, second, third)]
    assert (sizes, uploads.received("bob", bob)) == ([0, 2 * PART, 2 * PART], 2 * PART)


def test_what_is_in_use_is_never_displaced() -> None:
    uploads = Uploads(most_bytes=4 * PART)
    alice, bob = put(uploads, "alice", "1", 2), put(uploads, "bob", "2", 2)
    with uploads.hold("alice", alice, now=NOW, once=False), uploads.hold("bob", bob, now=NOW, once=False):
        assert refusal(lambda: put(uploads, "alice", "3")).code is ErrorCode.PARTY_BUSY
        assert refusal(lambda: put(uploads, "carol", "4")).code is ErrorCode.PARTY_BUSY
        uploads.sweep(UNTIL)
        assert uploads.received("alice", alice) == 2 * PART
    uploads.sweep(UNTIL)
    assert uploads.received("alice", alice) == 0


def test_complete_message_never_grows_under_whoever_reads_it() -> None:
    uploads = Uploads(most_bytes=8 * PART)
    digest = put(uploads, "alice", "keys", 2)
    with uploads.hold("alice", digest, now=NOW, once=False) as data:
        error = refusal(
            lambda: uploads.put("alice", digest, total=3 * PART, offset=2 * PART, data=b"x", good_until=UNTIL, now=NOW)
        )
        assert (error.code, len(data)) == (ErrorCode.INVALID_ARGUMENT, 2 * PART)


def test_digest_that_somebody_only_says_unloads_nobody_s_keys() -> None:
    lost: list[str] = []
    uploads = Uploads(most_bytes=8 * PART, forgotten=lost.append)
    digest = put(uploads, "alice", "keys", 2)
    put(uploads, "bob", "keys", 1, of=2)  # under the same digest, and never the rest
    uploads.sweep(NOW + STALLED_AFTER)
    assert lost == []
    uploads.sweep(UNTIL)
    assert lost == [digest]


def test_queries_that_were_never_asked_are_forgotten_with_their_enquiry() -> None:
    lost: list[str] = []
    uploads = Uploads(most_bytes=8 * PART, forgotten=lost.append)
    keys = put(uploads, "alice", "keys")
    hers, others = (put(uploads, "alice", name, enquiry=enquiry) for name, enquiry in (("one", "e"), ("two", "f")))
    with uploads.hold("alice", hers, now=NOW, once=False):
        uploads.end("e")
        assert uploads.received("alice", hers) == PART
    assert [uploads.received("alice", each) for each in (hers, others, keys)] == [0, PART, PART]
    assert lost == []  # no evaluator has queries loaded


def test_query_that_found_no_room_need_not_be_uploaded_again() -> None:
    uploads = Uploads(most_bytes=8 * PART)
    digest = put(uploads, "alice", "query")
    for code, left in ((ErrorCode.PARTY_BUSY, PART), (ErrorCode.EVALUATION_FAILED, 0)):
        with pytest.raises(ConfideError), uploads.hold("alice", digest, now=NOW, once=True):
            raise ConfideError(code, "")
        assert uploads.received("alice", digest) == left


def test_query_is_forgotten_with_its_last_user() -> None:
    uploads = Uploads(most_bytes=8 * PART)
    digest = put(uploads, "alice", "query")
    with uploads.hold("alice", digest, now=NOW, once=True):
        with uploads.hold("alice", digest, now=NOW, once=True) as data:
            assert bytes(data) == message("query")[1]
        assert uploads.received("alice", digest) == PART
    assert uploads.received("alice", digest) == 0


def test_same_bytes_of_two_researchers_are_two_uploads() -> None:
    uploads = Uploads(most_bytes=8 * PART)
    digest = put(uploads, "alice", "same")
    assert uploads.received("bob", digest) == 0
    assert refusal(lambda: uploads.hold("bob", digest, now=NOW, once=True).__enter__()).code is ErrorCode.NOT_READY


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(1, 5)), max_size=60))
def test_uploads_never_take_more_than_their_memory_nor_one_researcher_more_than_half(steps: list[tuple[str, int, int]]) -> None:
    uploads = Uploads(most_bytes=10 * PART)
    for owner, name, parts in steps:
        put(uploads, owner, str(name), parts, of=5)
        held = {each: sum(uploads.received(each, message(str(n), 5)[0]) for n in range(6)) for each in "abc"}
        assert sum(held.values()) <= 10 * PART
        assert max(held.values()) <= 5 * PART


def test_kept_answers_are_bounded_by_number_and_bytes() -> None:
    kept = KeptAnswers(most_bytes=1000)
    for number in range(MOST_OF_ENQUIRY):
        kept.expect("alice", "e", str(number), size=10, now=NOW)
    assert refusal(lambda: kept.expect("alice", "e", "more", size=10, now=NOW)).code is ErrorCode.PARTY_BUSY
    assert refusal(lambda: kept.expect("alice", "f", "large", size=400, now=NOW)).code is ErrorCode.PARTY_BUSY
    kept.forget("e")
    kept.expect("alice", "f", "large", size=400, now=NOW)


def test_researcher_who_does_not_fetch_leaves_half_of_the_memory_to_others() -> None:
    kept = KeptAnswers(most_bytes=1000)
    for number in range(5):  # of enquiries of their own, so that no bound of one enquiry holds
        kept.expect("alice", f"e{number}", "r", size=100, now=NOW)
    assert refusal(lambda: kept.expect("alice", "e9", "r", size=1, now=NOW)).code is ErrorCode.PARTY_BUSY
    kept.expect("bob", "f", "r", size=500, now=NOW)
    assert refusal(lambda: kept.expect("carol", "g", "r", size=1, now=NOW)).code is ErrorCode.PARTY_BUSY


def test_answer_of_an_ended_enquiry_is_not_kept_when_it_comes_at_last() -> None:
    kept = KeptAnswers()
    kept.expect("alice", "e", "r", size=10, now=NOW)
    kept.forget("e")
    kept.put("e", "r", b"answer", NOW)
    assert refusal(lambda: kept.get("e", "r")).code is ErrorCode.UNKNOWN_OUTPUT


def test_what_is_being_computed_is_kept_however_long_it_takes() -> None:
    kept = KeptAnswers()
    kept.expect("alice", "e", "r", size=10, now=NOW)
    kept.sweep(NOW + 2 * KEPT_FOR)
    kept.put("e", "r", b"answer", NOW + 2 * KEPT_FOR)
    assert kept.get("e", "r") == b"answer"
    kept.sweep(NOW + 3 * KEPT_FOR)
    assert refusal(lambda: kept.get("e", "r")).code is ErrorCode.UNKNOWN_OUTPUT


def test_clock_that_is_set_back_keeps_nothing_longer() -> None:
    kept, uploads = KeptAnswers(), Uploads(most_bytes=8 * PART)
    kept.expect("alice", "e", "r", size=10, now=NOW)
    kept.put("e", "r", b"answer", NOW)
    digest = put(uploads, "alice", "keys", 1, of=2)
    earlier = NOW - timedelta(days=1)
    for time in (earlier, earlier + KEPT_FOR):
        kept.sweep(time)
        uploads.sweep(time)
    assert refusal(lambda: kept.get("e", "r")).code is ErrorCode.UNKNOWN_OUTPUT
    assert uploads.received("alice", digest) == 0


def test_rate_counts_what_is_known_from_elsewhere_and_forgets_with_time() -> None:
    rate = Rate(timedelta(hours=1))
    taken = [rate.take("alice", most=3, before=before, now=NOW) for before in (0, 2, 2, 2)]
    assert taken == [True, True, True, False]
    assert rate.take("bob", most=3, now=NOW)
    later = NOW + timedelta(hours=1)
    assert not rate.take("alice", most=3, before=3, now=later)
    assert rate.take("alice", most=3, now=later)


def test_what_is_given_back_to_a_rate_may_be_taken_again() -> None:
    rate = Rate(timedelta(hours=1))
    times = [NOW + timedelta(seconds=number) for number in range(3)]
    assert [rate.take("alice", most=2, now=time) for time in times] == [True, True, False]
    rate.give_back("alice", counted=times[0])
    rate.give_back("bob", counted=times[0])  # has done nothing
    assert [rate.take("alice", most=2, now=times[2]) for _ in range(2)] == [True, False]


class Held:
    """Work that is under way until it is let go."""

    def __init__(self) -> None:
        self.begun, self.end = Event(), Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.end.wait(WITHIN_S)


def test_researcher_whose_answers_take_long_leaves_threads_to_others() -> None:
    keepers = Keepers(most=4)
    hers = [Held() for _ in range(8)]
    for each in hers:
        keepers.submit("alice", each)
    assert all(each.begun.wait(WITHIN_S) for each in hers[:2])
    for owner in ("bob", "carol"):  # each begins though six of alice's were there before
        his = Held()
        keepers.submit(owner, his)
        assert his.begun.wait(WITHIN_S)
        his.end.set()
    assert [each.begun.is_set() for each in hers] == [True] * 2 + [False] * 6
    for each in hers:
        each.end.set()
    assert all(each.begun.wait(WITHIN_S) for each in hers)
    keepers.stop()


def test_thread_that_is_free_takes_up_whoever_has_the_fewest_under_way() -> None:
    keepers, order = Keepers(most=2), Queue[str]()
    held = {owner: Held() for owner in ("alice", "bob")}
    for owner, each in held.items():
        keepers.submit(owner, each)
        assert each.begun.wait(WITHIN_S)
    for owner in ("alice", "alice", "carol"):
        keepers.submit(owner, lambda owner=owner: order.put(owner))
    assert keepers.num_waiting == 3
    held["bob"].end.set()
    assert order.get(timeout=WITHIN_S) == "carol"
    held["alice"].end.set()
    assert [order.get(timeout=WITHIN_S) for _ in range(2)] == ["alice"] * 2
    keepers.stop()


def a_ticket(number: int, querier: str = "alice", *, is_long: bool = False) -> Ticket:
    return Ticket(number, querier, is_long)


def test_short_queries_go_before_long_ones_and_long_ones_never_hold_all_evaluators() -> None:
    long, other, short = a_ticket(0, is_long=True), a_ticket(1, is_long=True), a_ticket(2)
    assert next_turn([long, other, short], [], evaluators=2, last=-1) == short
    assert next_turn([long, other], [], evaluators=2, last=-1) == long
    assert next_turn([other], [long], evaluators=2, last=0) is None
    assert next_turn([long], [], evaluators=1, last=-1) == long
    assert next_turn([short], [long, other], evaluators=2, last=1) is None


def test_long_query_is_not_passed_over_for_ever() -> None:
    long, short = a_ticket(0, is_long=True), a_ticket(40)
    assert next_turn([long, short], [], evaluators=1, last=PASSED_OVER - 1) == short
    assert next_turn([long, short], [], evaluators=1, last=PASSED_OVER) == long


def test_researcher_with_few_under_way_comes_first() -> None:
    waiting = [a_ticket(5), a_ticket(6, "bob")]
    assert next_turn(waiting, [a_ticket(0)], evaluators=2, last=0) == waiting[1]
    assert next_turn(waiting, [], evaluators=2, last=0) == waiting[0]


@pytest.mark.parametrize("evaluators", [1, 2, 3])
@given(kinds=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=60))
def test_everything_that_waits_is_begun(evaluators: int, kinds: list[tuple[str, bool]]) -> None:
    waiting = [a_ticket(number, querier, is_long=is_long) for number, (querier, is_long) in enumerate(kinds)]
    begun: list[Ticket] = []
    under_way: list[Ticket] = []
    while waiting:
        found = next_turn(waiting, under_way, evaluators=evaluators, last=max((each.number for each in begun), default=-1))
        if found is None:
            under_way.pop(0)
            continue
        waiting.remove(found)
        under_way.append(found)
        begun.append(found)
    of_one_kind = [[each.number for each in begun if (each.querier, each.is_long) == kind] for kind in set(kinds)]
    assert all(before < after for numbers in of_one_kind for before, after in pairwise(numbers))
