"""A party's published models are told page by page, each once, whatever is published or withdrawn between two pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from parties.client.encrypted.published import all_pages
from parties.server.encrypted.listing import page
from parties.storage.encrypted import PublishedRecord
from parties.wire.documents import to_wire
from parties.wire.generated.confide.v1 import encrypted_pb2
from protocols.errors import ConfideError, ErrorCode
from tests.support.evaluator import OWNER, a_consortium, a_published_model, signed

NOW = datetime.now(UTC)
MODEL = a_published_model().published
Reply = encrypted_pb2.ListPublishedReply


def record(name: str, *, withdrawn: bool = False, expires: datetime = MODEL.expires) -> PublishedRecord:
    model = replace(MODEL, name=name, expires=expires)
    return PublishedRecord(model, signed(model), b"{}", bytes(32), "sealed", NOW, NOW if withdrawn else None)


RECORDS = tuple(record(name) for name in ("one", "two", "three", "four", "five"))
TWO = 2 * to_wire(RECORDS[2].signed).ByteSize()  # the description with the longest name: two fit, three do not


def told(records: Sequence[PublishedRecord], model: str = "") -> Callable[[str], Reply]:
    return lambda after: page(records, party=OWNER, model=model, after=after, now=NOW, most_bytes=TWO)


def names(tell: Callable[[str], Reply]) -> list[str]:
    return [each.published.name for each in all_pages(tell, party=OWNER, directory=a_consortium().directory)]


def test_every_model_is_on_one_page_and_no_page_is_larger_than_it_may_be() -> None:
    assert names(told(RECORDS)) == ["one", "two", "three", "four", "five"]
    first = told(RECORDS)("")
    assert (len(first.models), first.more) == (2, True)
    last = told(RECORDS)(RECORDS[3].model.ref.label)
    assert (len(last.models), last.more) == (1, False)
    assert first.party == last.party == OWNER


def test_model_that_is_larger_than_a_page_has_one_of_its_own() -> None:
    replies = [
        page(RECORDS, party=OWNER, model="", after=after, now=NOW, most_bytes=1) for after in ("", RECORDS[0].model.ref.label)
    ]
    assert [(len(each.models), each.more) for each in replies] == [(1, True), (1, True)]


def test_withdrawn_expired_and_other_models_are_left_out_and_do_not_end_a_listing() -> None:
    records = (
        *RECORDS[:1],
        record("gone", withdrawn=True),
        record("old", expires=MODEL.valid_from + timedelta(minutes=30)),
        *RECORDS[1:],
    )
    assert names(told(records)) == ["one", "two", "three", "four", "five"]
    assert names(told(records, "three")) == names(told(records, RECORDS[2].model.ref.label)) == ["three"]
    assert names(told(records, "nobody")) == []


def test_model_withdrawn_or_published_between_two_pages_neither_hides_nor_repeats_others() -> None:
    last = RECORDS[1].model.ref.label
    after = (record("newest"), RECORDS[0], replace(RECORDS[1], withdrawn=NOW), *RECORDS[2:])
    assert len(told(after)(last).models) == 2
    assert told(after)(last).models[0].body == RECORDS[2].signed.body


def test_page_after_a_model_that_was_never_published_is_refused() -> None:
    with pytest.raises(ConfideError, match="no published model 'nothing") as caught:
        told(RECORDS)("nothing@0")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_listing_that_goes_in_circles_or_does_not_end_is_its_party_s_fault() -> None:
    endless = [to_wire(record(f"m{number}").signed) for number in range(70)]
    numbers = iter(range(70))
    for tell in (
        lambda _: told(RECORDS)(""),  # the first page for ever
        lambda _: Reply(party=OWNER, more=True),  # pages of nothing
        lambda _: Reply(party=OWNER, models=[endless[0], endless[0]]),
        lambda _: Reply(party=OWNER, models=[endless[next(numbers)]], more=True),
    ):
        with pytest.raises(ConfideError, match="does not end") as caught:
            names(tell)
        assert (caught.value.code, caught.value.party) == (ErrorCode.INVALID_DOCUMENT, OWNER)
