"""Who may ask for a job's status and outputs, when, and how often."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from parties.client.asked_outputs import PREDICTION_OUTPUT
from parties.client.client import Client, PreparedJob
from parties.wire import methods
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.errors import ConfideError, ErrorCode
from tests.support.callers import Caller
from tests.support.command import confide_alone
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, LEAD, LONG_TRAINING, Completed, Split, Trial

pytestmark = pytest.mark.multiparty

ASKED: dict[str, tuple[methods.Method[Any, Any], Callable[[str], Any]]] = {
    "status": (methods.GET_JOB, lambda job: jobs_pb2.GetJobRequest(job_id=job)),
    "cancel": (methods.CANCEL_JOB, lambda job: jobs_pb2.CancelJobRequest(job_id=job)),
    "result": (
        methods.FETCH_OUTPUT,
        lambda job: jobs_pb2.FetchOutputRequest(job_id=job, output=PREDICTION_OUTPUT, request_id="0" * 32),
    ),
}


@pytest.fixture(scope="module")
def inferred(trial: Trial, trained: Completed, split: Split) -> PreparedJob:
    return trial.complete(trial.infer(trained.model, split.samples.head(3)))


def code_of(act: Callable[[], object]) -> ErrorCode:
    with pytest.raises(ConfideError) as caught:
        act()
    return caught.value.code


def fetch(caller: Caller, job_id: str, party: str, request_id: str, output: str = PREDICTION_OUTPUT) -> bytes:
    request = jobs_pb2.FetchOutputRequest(job_id=job_id, output=output, request_id=request_id)
    return bytes(caller.call(methods.FETCH_OUTPUT, request, party=party).share)


def test_result_is_the_same_for_the_same_request_and_used_up_for_another(
    trial: Trial, inferred: PreparedJob, researcher: Caller
) -> None:
    first = trial.client.result(inferred.job)[PREDICTION_OUTPUT]
    again = trial.client.result(inferred.job)[PREDICTION_OUTPUT]
    assert np.array_equal(first, again)
    for party in COMPUTING:
        assert code_of(partial(fetch, researcher, inferred.job.job_id, party, secrets.token_hex(16))) is ErrorCode.GRANT_USED


def test_result_of_an_unknown_output_or_from_the_dealer_has_no_grant(inferred: PreparedJob, researcher: Caller) -> None:
    job_id = inferred.job.job_id
    assert code_of(lambda: fetch(researcher, job_id, LEAD, secrets.token_hex(16), "another")) is ErrorCode.NO_GRANT
    assert code_of(lambda: fetch(researcher, job_id, DEALER, secrets.token_hex(16))) is ErrorCode.NO_GRANT


@pytest.mark.parametrize("request_id", ["", "0" * 31, "g" * 32])
def test_result_with_a_malformed_request_id_is_refused_and_uses_nothing(
    trial: Trial, inferred: PreparedJob, researcher: Caller, request_id: str
) -> None:
    assert code_of(lambda: fetch(researcher, inferred.job.job_id, LEAD, request_id)) is ErrorCode.INVALID_ARGUMENT
    assert len(trial.client.result(inferred.job)[PREDICTION_OUTPUT]) == 3


@pytest.mark.parametrize("what", sorted(ASKED))
def test_another_researcher_s_question_gets_the_answer_for_a_job_that_does_not_exist(
    trial: Trial, inferred: PreparedJob, other: Caller, what: str
) -> None:
    method, request = ASKED[what]
    answers = []
    for job_id in (inferred.job.job_id, "f" * 32):
        with pytest.raises(ConfideError) as caught:
            other.call(method, request(job_id), party=LEAD)
        assert caught.value.code is ErrorCode.UNKNOWN_JOB
        answers.append(str(caught.value).replace(job_id, ""))
    assert answers[0] == answers[1], "the two answers tell that the job exists"
    assert len(trial.client.result(inferred.job)[PREDICTION_OUTPUT]) == 3


def test_another_researcher_watches_and_lists_nothing_of_it(trial: Trial, inferred: PreparedJob, other: Caller) -> None:
    request = jobs_pb2.GetJobRequest(job_id=inferred.job.job_id)
    assert code_of(lambda: next(methods.WATCH_JOB.stream(other.channel(LEAD), request, party=LEAD))) is ErrorCode.UNKNOWN_JOB
    listed = other.call(methods.LIST_JOBS, jobs_pb2.ListJobsRequest(), party=LEAD).jobs
    assert inferred.job.job_id not in {status.job_id for status in listed}


def test_result_before_completion_is_not_ready_and_after_cancellation_failed(trial: Trial, researcher: Caller) -> None:
    prepared = trial.train(LONG_TRAINING, model_name="unfinished")
    trial.client.submit(prepared)
    trial.await_steps(prepared.job)
    job_id = prepared.job.job_id
    assert code_of(lambda: fetch(researcher, job_id, LEAD, "0" * 32)) is ErrorCode.NOT_READY
    trial.client.cancel(prepared.job)
    trial.endings(prepared.job)
    assert code_of(lambda: fetch(researcher, job_id, LEAD, "0" * 32)) is ErrorCode.JOB_FAILED


def test_second_process_on_one_state_folder_is_refused_with_its_code(trial: Trial) -> None:
    said = confide_alone("party", "serve", "--config", trial.network.party(LEAD).config_file, "--format", "json")
    assert (said.exit_code, said.failure["code"]) == (8, "STATE_LOCKED")
    assert trial.network.party(LEAD).is_alive


def test_model_version_of_nobody_is_unknown(trial: Trial, split: Split) -> None:
    def ask(client: Client) -> object:
        return trial.infer("diagnosis@000000000000", split.samples, client=client)

    assert code_of(lambda: ask(trial.client)) is ErrorCode.UNKNOWN_MODEL
    assert all(trial.network.party(party).is_alive for party in HOSPITALS)
