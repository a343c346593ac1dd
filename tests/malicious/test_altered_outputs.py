"""Parties that deviate when outputs are opened: what they hand out is never combined, and where it is provable they are named."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.errors import ConfideError, ErrorCode
from protocols.job import Output, OutputKind
from tests.support.jobs import an_inference
from tests.support.opening_world import (
    Copier,
    LastChooser,
    OtherNonce,
    completed,
    end_session,
    open_as_querier,
    parties_with_shares,
    with_commitment,
)

TRIO = ("hospital-a", "hospital-b", "hospital-c")
JOB = an_inference(
    computing_parties=TRIO, dealer="hospital-d", query_rows=4, outputs=(Output("labels", OutputKind.LABEL, "alice"),)
)
VALUE, WANTED = np.array([0, 1, 1, 0]), np.array([1, 1, 1, 1])


def test_outputs_of_honest_parties_are_opened() -> None:
    parties = parties_with_shares(JOB, VALUE, kinds={})
    assert open_as_querier(JOB, parties, end_session(JOB, parties)).tolist() == VALUE.tolist()


@pytest.mark.parametrize("cheat", TRIO)
def test_share_chosen_after_seeing_all_others_is_found_and_its_party_named(cheat: str) -> None:
    parties = parties_with_shares(JOB, VALUE, kinds={cheat: LastChooser})
    parties[cheat].wanted = WANTED  # type: ignore[attr-defined]  # a LastChooser
    with pytest.raises(ConfideError) as caught:
        open_as_querier(JOB, parties, end_session(JOB, parties), last=[cheat])
    assert (caught.value.code, caught.value.party) == (ErrorCode.COMMITMENT_DIFFERS, cheat)


def test_share_chosen_last_would_decide_the_output_if_nobody_committed() -> None:
    """The attack is real: its shares sum to what the cheater wants."""
    cheat = TRIO[2]
    parties = parties_with_shares(JOB, VALUE, kinds={cheat: LastChooser})
    parties[cheat].wanted = WANTED  # type: ignore[attr-defined]  # a LastChooser
    parties[cheat].seen = [parties[party].hand_out("labels") for party in TRIO[:2]]
    shares = [np.frombuffer(parties[party].hand_out("labels").share, "<i8") for party in TRIO]
    assert sum(shares, np.zeros(4, np.int64)).tolist() == WANTED.tolist()


@pytest.mark.parametrize("cheat", TRIO)
def test_other_nonce_is_found_and_its_party_named(cheat: str) -> None:
    parties = parties_with_shares(JOB, VALUE, kinds={cheat: OtherNonce})
    with pytest.raises(ConfideError) as caught:
        open_as_querier(JOB, parties, end_session(JOB, parties))
    assert (caught.value.code, caught.value.party) == (ErrorCode.COMMITMENT_DIFFERS, cheat)


def test_commitment_copied_from_another_party_cannot_be_opened() -> None:
    parties = parties_with_shares(JOB, VALUE, kinds={TRIO[2]: Copier})
    parties[TRIO[2]].model = parties[TRIO[0]]  # type: ignore[attr-defined]  # a Copier
    with pytest.raises(ConfideError) as caught:
        open_as_querier(JOB, parties, end_session(JOB, parties), last=[TRIO[2]])
    assert (caught.value.code, caught.value.party) == (ErrorCode.COMMITMENT_DIFFERS, TRIO[2])


@pytest.mark.parametrize("victim", TRIO[1:])
@pytest.mark.parametrize("forged", TRIO)
def test_lead_shows_other_commitments_to_one_party_nothing_is_fetched(victim: str, forged: str) -> None:
    parties = parties_with_shares(JOB, VALUE, kinds={})
    true = completed(JOB, {party: parties[party].commitments() for party in TRIO})
    lie = with_commitment(true, forged, "labels", "f" * 64)
    if forged == victim:  # the party knows its own
        with pytest.raises(ConfideError) as refused:
            end_session(JOB, parties, shown={victim: lie})
        assert (refused.value.code, refused.value.party) == (ErrorCode.BAD_FRAME, JOB.lead)
        return
    endings = end_session(JOB, parties, shown={victim: lie})
    assert set(endings) == set(TRIO)
    with pytest.raises(ConfideError) as caught:
        open_as_querier(JOB, parties, endings)
    assert caught.value.code is ErrorCode.COMMITMENT_DIFFERS
    assert all(party.seen == [] for party in parties.values()), "nothing was fetched"


def test_party_that_shows_no_ending_yet_or_a_failed_one_opens_nothing() -> None:
    parties = parties_with_shares(JOB, VALUE, kinds={})
    endings = end_session(JOB, parties)
    del endings[TRIO[1]]
    with pytest.raises(ConfideError) as caught:
        open_as_querier(JOB, parties, endings)
    assert (caught.value.code, caught.value.party) == (ErrorCode.NOT_READY, TRIO[1])
