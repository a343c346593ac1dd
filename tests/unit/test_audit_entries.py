"""Entries of the log: their bytes, and that nothing else is read."""

from collections.abc import Mapping
from datetime import timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.audit.entries import MAX_FACTS, NEEDED, NO_PREVIOUS, EntryKind, Fact, entry_body, read_entry
from protocols.canonical import canonical_bytes, parse_canonical
from protocols.errors import ConfideError, ErrorCode
from tests.support.members import NOW

TEXT = st.text(max_size=40)
FACTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT | st.lists(TEXT, max_size=4),
    max_size=6,
)


def a_body(facts: Mapping[str, Fact], *, kind: EntryKind = EntryKind.ALIAS, index: int = 7) -> bytes:
    return entry_body(index=index, time=NOW, kind=kind, facts=facts, previous="ab" * 32)


@settings(max_examples=50)
@given(FACTS)
def test_entry_is_canonical_json_and_is_read_back(facts: dict[str, Fact]) -> None:
    body = a_body(facts)
    document = {
        "format": "confide.log-entry/2",
        "index": 7,
        "time": "2026-03-01T12:00:00Z",
        "kind": "alias",
        "facts": facts,
        "previous": "ab" * 32,
    }
    assert body == canonical_bytes(document)
    read = read_entry(body)
    assert (read.index, read.time, read.kind, read.facts, read.previous) == (7, NOW, EntryKind.ALIAS, facts, "ab" * 32)


def test_entry_time_is_utc_in_whole_seconds() -> None:
    at = NOW.astimezone(timezone(timedelta(hours=2))) + timedelta(microseconds=999_999)
    body = entry_body(index=0, time=at, kind=EntryKind.STARTED, facts={}, previous=NO_PREVIOUS)
    assert b'"time":"2026-03-01T12:00:00Z"' in body


@pytest.mark.parametrize(
    "facts",
    [
        {"Name": "x"},
        {"": "x"},
        {"is": True},
        {"epsilon": 0.5},
        {"nested": {"a": "b"}},
        {"numbers": [1]},
        {"size": 2**53},
        {"long": "x" * 1025},
        {"lone": "\ud800"},
        {"lone": ["\udfff"]},
        {f"f{n}": None for n in range(MAX_FACTS + 1)},
        {f"f{n}": ["x" * 1000] for n in range(20)},
    ],
)
def test_facts_that_no_log_takes_are_a_defect(facts: dict[str, Fact]) -> None:
    with pytest.raises(ConfideError) as caught:
        a_body(facts)
    assert caught.value.code is ErrorCode.INTERNAL


def test_entry_of_a_job_without_the_facts_that_connect_it_is_a_defect_and_all_are_named() -> None:
    for kind, names in NEEDED.items():
        with pytest.raises(ConfideError) as caught:
            a_body({}, kind=kind)
        assert [problem.where for problem in caught.value.problems] == [f"facts.{name}" for name in names]


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b"confide.log-entry/2", b"confide.log-entry/3", "format"),
        (b'"index":7', b'"index":-7', "index"),
        (b'"kind":"alias"', b'"kind":"party"', "kind"),
        (b'"previous":"ab', b'"previous":"AB', "previous"),
        (b"12:00:00Z", b"12:00:00+", "time"),
        (b'"facts":{"model":"ward"}', b'"facts":["model"]', "facts"),
        (b'"facts":{"model":"ward"}', b'"facts":{"model":true}', "facts.model"),
        (b'{"facts"', b'{"author":"x","facts"', "author"),
    ],
)
def test_entry_with_one_wrong_field_is_refused_by_its_name(old: bytes, new: bytes, where: str) -> None:
    body = a_body({"model": "ward"})
    assert old in body
    with pytest.raises(ConfideError) as caught:
        read_entry(body.replace(old, new))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert [problem.where for problem in caught.value.problems] == [where]


def test_entry_that_is_too_long_or_not_canonical_is_refused() -> None:
    body = a_body({"model": "ward"})
    for data in (body + b" " * 20_000, body.replace(b'":"', b'": "'), body[:-1], b"[]", b"\xff"):
        with pytest.raises(ConfideError, match=r"entr|document") as caught:
            read_entry(data)
        assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert parse_canonical(body)["index"] == 7
