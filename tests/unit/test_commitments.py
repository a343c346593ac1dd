"""Commitments to output shares: what binds, what hides, and one set for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.commitments import NONCE_BYTES, CommittedShare, check_opening, commitment_of, one_set
from parties.client.opening import open_output
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from tests.support.jobs import an_evaluation

SHARE = CommittedShare("ab" * 16, 1, "labels", "hospital-a", (2, 3), 16, bytes(range(48)), bytes(range(32)))
texts = st.text("abcdefghij-", min_size=1, max_size=8)
shares = st.builds(
    CommittedShare,
    session=texts,
    attempt=st.integers(1, 99),
    output=texts,
    party=texts,
    shape=st.lists(st.integers(0, 5), max_size=3).map(tuple),
    scale_bits=st.integers(0, 40),
    share=st.binary(max_size=24),
    nonce=st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
)


def test_commitment_is_the_one_written_down() -> None:
    """The format is part of the protocol: parties of two versions must agree on it. Computed by hand from the definition."""
    assert commitment_of(SHARE) == "3cdc3c80e8607b80d6c04969bb0ac1c277e220d4c34c062561f24757c18115e1"


@pytest.mark.parametrize(
    "changes",
    [
        {"session": "ac" * 16}, {"attempt": 2}, {"output": "label"}, {"party": "hospital-b"}, {"shape": (3, 2)}, {"shape": (6,)},
        {"scale_bits": 15}, {"share": bytes(48)}, {"share": bytes(range(47))}, {"nonce": bytes(32)},
    ],
)  # fmt: skip
def test_opening_anything_changed_is_refused_and_names_the_party(changes: dict[str, Any]) -> None:
    check_opening(SHARE, commitment_of(SHARE))
    with pytest.raises(ConfideError) as caught:
        check_opening(replace(SHARE, **changes), commitment_of(SHARE))
    assert (caught.value.code, caught.value.party) == (ErrorCode.COMMITMENT_DIFFERS, changes.get("party", "hospital-a"))
    assert SHARE.share.hex()[:16] not in str(caught.value)


@given(shares, shares)
def test_commitment_two_different_inputs_differ(one: CommittedShare, other: CommittedShare) -> None:
    assert (commitment_of(one) == commitment_of(other)) == (one == other)


@given(st.binary(max_size=16), st.binary(max_size=16), st.integers(0, 16))
def test_commitment_bytes_cannot_be_moved_between_fields(share: bytes, tail: bytes, cut: int) -> None:
    """Each field is preceded by its length: share and nonce cannot be shifted against each other."""
    whole = share + tail
    one = replace(SHARE, share=whole[:cut], nonce=(whole[cut:] + bytes(NONCE_BYTES))[:NONCE_BYTES])
    other = replace(SHARE, share=whole[: cut + 1], nonce=(whole[cut + 1 :] + bytes(NONCE_BYTES))[:NONCE_BYTES])
    assert (commitment_of(one) == commitment_of(other)) == (one == other)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_commitment_with_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ConfideError) as caught:
        commitment_of(replace(SHARE, nonce=bytes(size)))
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, "hospital-a")


def test_committed_share_shows_neither_share_nor_nonce() -> None:
    assert "x04" not in repr(SHARE)
    assert "share=" not in repr(SHARE)
    assert "nonce=" not in repr(SHARE)


def a_set(**changes: str) -> dict[str, dict[str, str]]:
    return {party: {"labels": changes.get(party, party[0]) * 64} for party in ("a", "b", "c")}


def test_one_set_shown_by_all_is_returned() -> None:
    assert one_set({party: a_set() for party in ("a", "b", "c")}, outputs=frozenset({"labels"})) == a_set()


@pytest.mark.parametrize("victim", ["a", "b", "c"])
@pytest.mark.parametrize("liar", ["a", "b", "c"])
def test_one_set_lead_shows_another_set_to_one_party_is_found(victim: str, liar: str) -> None:
    shown = {party: a_set() for party in ("a", "b", "c")}
    shown[victim] = a_set(**{liar: "f"})
    with pytest.raises(ConfideError) as caught:
        one_set(shown, outputs=frozenset({"labels"}))
    assert caught.value.code is ErrorCode.COMMITMENT_DIFFERS


@pytest.mark.parametrize(
    "altered",
    [
        {},
        {"a": {"labels": "a" * 64}},
        {**a_set(), "d": {"labels": "d" * 64}},
        {**a_set(), "b": {}},
        {**a_set(), "b": {"x": "b" * 64}},
    ],
)
def test_one_set_incomplete_set_is_refused_and_names_who_shows_it(altered: dict[str, dict[str, str]]) -> None:
    shown = {"a": a_set(), "b": altered, "c": a_set()}
    with pytest.raises(ConfideError) as caught:
        one_set(shown, outputs=frozenset({"labels"}))
    assert (caught.value.code, caught.value.party) == (ErrorCode.COMMITMENT_DIFFERS, "b")


def test_opening_shape_whose_product_overflows_is_refused_and_names_the_party() -> None:
    """65536 to the fourth is 0 in 64 bits: no bytes would fit it."""
    job = an_evaluation()
    (output,) = job.outputs
    replies, commitments = [], {}
    for party in job.computing_parties:
        reply = jobs_pb2.FetchOutputReply(party=party, share=b"", shape=[65536] * 4, scale_bits=0, nonce=bytes(NONCE_BYTES))
        said = CommittedShare(job.job_id, job.attempt, output.name, party, tuple(reply.shape), 0, b"", reply.nonce)
        replies.append(reply)
        commitments[party] = {output.name: commitment_of(said)}
    with pytest.raises(ConfideError) as caught:
        open_output(job, output, replies=replies, commitments=commitments)
    assert (caught.value.code, caught.value.party) == (ErrorCode.BAD_FRAME, job.computing_parties[0])
