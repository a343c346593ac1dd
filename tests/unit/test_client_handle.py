"""Job handles, listings and requests from Python objects, against a client that answers from memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from parties.client.client import Client
from parties.client.failures import InvalidRequest, JobCancelled, JobFailed, PartyUnavailable
from parties.client.handle import JobHandle, failure_of
from parties.client.listing import Listing, html_table
from parties.client.placement import Placement
from parties.client.progress import Progress
from parties.client.tasks import _decimal_texts, as_given
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.jobs import a_training, an_evaluation

JOB = a_training()
FIRST, SECOND, *_ = JOB.participants
COMPLETED = Ending(JOB.job_id, 1, State.COMPLETED, "", State.RELEASING, "", "", "", FIRST, "2026-03-01T12:00:00Z", True, {})
LOST = replace(
    COMPLETED,
    state=State.ABORTED,
    code="PEER_LOST",
    phase=State.RUNNING,
    at_fault=SECOND,
    cause="the link ended",
    remedy="Submit it again.",
)


class Answers:
    """A client whose parties say what they are told to."""

    def __init__(self, **said: Progress | ConfideError) -> None:
        self.said = {party.replace("_", "-"): answer for party, answer in said.items()}

    def progress(self, job_id: str, party: str) -> Progress:
        answer = self.said.get(party, ConfideError(ErrorCode.PARTY_UNREACHABLE, "it is down", party=party))
        if isinstance(answer, ConfideError):
            raise answer
        return answer

    def wait(self, job: Job, *, timeout_s: float) -> Ending:
        return next(answer.ending for answer in self.said.values() if isinstance(answer, Progress) and answer.ending is not None)


def handle(job: Job = JOB, **said: Progress | ConfideError) -> JobHandle:
    return JobHandle(cast(Client, Answers(**said)), job)


def says(party: str, state: State, ending: Ending | None = None) -> Progress:
    return Progress(party, state.value, "training", 3, 9, 7, 1_000, 1_200, "", ending)


def test_state_is_that_of_the_first_participant_that_answers() -> None:
    assert handle(**{SECOND: says(SECOND, State.RUNNING)}).state == "running"
    assert handle().state == "unknown"


def test_progress_of_a_participant_that_is_down_is_none() -> None:
    found = handle(**{SECOND: says(SECOND, State.RUNNING)}).progress()
    assert {party for party, said in found.items() if said is None} == set(JOB.participants) - {SECOND}


def test_wait_for_a_completed_job_returns_its_ending() -> None:
    assert handle(**{FIRST: says(FIRST, State.COMPLETED, COMPLETED)}).wait() == COMPLETED


def test_wait_for_a_job_that_failed_raises_with_phase_fault_cause_and_fix() -> None:
    with pytest.raises(JobFailed) as caught:
        handle(**{FIRST: says(FIRST, State.ABORTED, LOST)}).wait()
    for part in ("aborted", "running", SECOND, "PEER_LOST", "the link ended"):
        assert part in caught.value.what
    assert (caught.value.fix, caught.value.party) == ("Submit it again.", SECOND)


def test_failure_of_a_cancelled_job_is_its_own_class() -> None:
    cancelled = replace(COMPLETED, state=State.CANCELLED, code="CANCELLED", cause="asked for", remedy="x")
    assert isinstance(failure_of(JOB, cancelled), JobCancelled)


def test_explain_brings_together_what_everybody_says() -> None:
    found = handle(**{FIRST: says(FIRST, State.ABORTED, LOST)}).explain()
    assert (found.state, found.code, found.phase, found.at_fault) == ("aborted", "PEER_LOST", "running", SECOND)
    assert found.page == "docs/errors/PEER_LOST.md"
    assert [row[0] for row in found.parties] == list(JOB.participants)
    assert "PARTY_UNREACHABLE" in str(found)
    assert "Submit it again." in found._repr_html_()


def test_model_in_training_is_not_shown_as_one_that_can_be_used() -> None:
    assert handle(**{FIRST: says(FIRST, State.RUNNING)}).cells()[-1] == ""
    assert handle(**{FIRST: says(FIRST, State.COMPLETED)}).cells()[-1] == handle().model
    assert handle(an_evaluation()).model


def test_failure_of_a_call_has_the_class_of_its_code() -> None:
    class Down(Answers):
        def plan(self, job: Job) -> None:
            raise ConfideError(ErrorCode.PARTY_UNREACHABLE)

    with pytest.raises(PartyUnavailable):
        JobHandle(cast(Client, Down()), JOB).plan()


class Line:
    def __init__(self, *cells: str) -> None:
        self._cells = cells

    def cells(self) -> tuple[str, ...]:
        return self._cells


def test_listing_is_a_sequence_and_a_table() -> None:
    listing = Listing(("name", "rows"), [Line("a", "1"), Line("bb", "22")], unheard={"hospital-c": "it is down"})
    assert (len(listing), listing[1].cells(), [line.cells()[0] for line in listing]) == (2, ("bb", "22"), ["a", "bb"])
    assert repr(listing).splitlines() == ["name  rows", "a     1", "bb    22", "(hospital-c could not be asked: it is down)"]


def test_table_for_a_notebook_escapes_what_other_parties_say() -> None:
    listing = Listing(("name",), [Line("<script>alert(1)</script>")], unheard={"x": "<b>"})
    assert "<script>" not in listing._repr_html_()
    assert "<b>" not in listing._repr_html_()
    assert "&lt;script&gt;" in html_table(("<i>",), [("<script>",)])


def test_predictions_have_the_form_of_the_samples() -> None:
    labels, probabilities = np.array([1, 0]), np.array([[0.25, 0.75], [0.5, 0.5]])
    frame = pd.DataFrame({"x": [0.0, 1.0]}, index=["p", "q"])
    framed = as_given(labels, frame, output="label")
    assert isinstance(framed, pd.DataFrame)
    assert framed["label"].to_dict() == {"p": 1, "q": 0}
    assert list(as_given(probabilities, frame, output="probability").columns) == ["probability_0", "probability_1"]
    assert as_given(labels, np.zeros((2, 1)), output="label") is labels
    assert torch.equal(cast(Any, as_given(labels, torch.zeros(2, 1), output="label")), torch.tensor([1, 0]))


def test_floats_become_the_decimals_that_a_person_would_write() -> None:
    given = {"learning_rate": 0.1, "epochs": 3, "optimiser": {"weight_decay": 1e-05, "kind": "sgd"}}
    expected = {"learning_rate": "0.1", "epochs": 3, "optimiser": {"weight_decay": "0.00001", "kind": "sgd"}}
    assert _decimal_texts(given) == expected


def test_placement_takes_what_it_leaves_open_from_another_and_guesses_nothing() -> None:
    profile = Placement(("a", "b"), "c")
    assert Placement(dealer="d").or_else(profile) == Placement(("a", "b"), "d")
    with pytest.raises(ConfideError) as caught:
        Placement(("a", "b")).require()
    assert [problem.where for problem in caught.value.problems] == ["dealer"]
    assert InvalidRequest.__mro__[1].__name__ == "ClientError"
