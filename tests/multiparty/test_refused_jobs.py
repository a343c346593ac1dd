"""Jobs that every party, or the one that knows better, refuses: with a clear code, everywhere, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from parties.client.client import PreparedJob
from parties.client.prepare import prepare_job
from parties.client.requests import TrainRequest
from parties.operating.own import load_own_member, tls_identity
from parties.transport.opening import LinkOpening
from parties.wire import methods
from parties.wire.generated.confide.v1 import jobs_pb2
from protocols.canonical import canonical_bytes
from protocols.errors import ErrorCode
from protocols.job import Job
from protocols.session.states import State
from tests.support.callers import Caller
from tests.support.processes import Program, end
from tests.support.refusals import assert_rejected_everywhere, refusal
from tests.support.tls_links import asked, opened
from tests.support.trial import (
    COMPUTING,
    DEALER,
    HOSPITALS,
    LEAD,
    OTHER_RESEARCHER,
    SECOND,
    SHORT_TRAINING,
    Completed,
    Split,
    Trial,
    changed,
)

pytestmark = pytest.mark.multiparty


@pytest.fixture
def training(trial: Trial) -> PreparedJob:
    return trial.train(SHORT_TRAINING, model_name="refused")


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        pytest.param(
            lambda job: {
                "created": job.created - timedelta(minutes=20),
                "agree_by": job.created - timedelta(minutes=15),
                "expires": job.created - timedelta(minutes=10),
            },
            ErrorCode.JOB_EXPIRED,
            "expires",
            id="expired",
        ),
        pytest.param(lambda job: {"directory_version": 1}, ErrorCode.STALE_DIRECTORY, "directory_version", id="directory"),
        pytest.param(lambda job: {"consortium": "another"}, ErrorCode.INVALID_JOB, "consortium", id="consortium"),
        pytest.param(
            lambda job: {
                "created": job.created + timedelta(minutes=20),
                "agree_by": job.created + timedelta(minutes=22),
            },
            ErrorCode.INVALID_JOB,
            "created",
            id="future",
        ),
    ],
)
def test_job_of_another_time_or_directory_is_refused_by_every_party(
    trial: Trial, training: PreparedJob, change: Callable[[Job], dict[str, Any]], code: ErrorCode, where: str
) -> None:
    prepared = changed(training, **change(training.job))
    error = refusal(lambda: trial.client.submit(prepared))
    assert error.code is code
    # What consent has against the job stands beside it.
    assert {problem.where for problem in error.problems if ".issuer" not in problem.where} == {f"{p} {where}" for p in HOSPITALS}
    state = State.EXPIRED if code is ErrorCode.JOB_EXPIRED else State.REJECTED
    assert_rejected_everywhere(trial, prepared.job, code, state=state)


@pytest.mark.parametrize("field", ["num_rows", "commitment"])
def test_altered_dataset_description_is_refused_by_its_owner_and_ends_everywhere(
    trial: Trial, training: PreparedJob, field: str
) -> None:
    first, second, third = training.job.datasets
    lie: dict[str, Any] = {"num_rows": second.num_rows + 1, "commitment": "0" * 64}
    prepared = changed(training, datasets=(first, replace(second, **{field: lie[field]}), third))
    error = refusal(lambda: trial.client.submit(prepared))
    assert (error.code, error.party) == (ErrorCode.INVALID_JOB, SECOND)
    assert error.problems[0].where == f"datasets.{SECOND}.train"
    # A grant is for a commitment, so a job that names another one has no consent either.
    assert [problem.where.rpartition(".")[2] for problem in error.problems[1:]] == (
        ["commitment"] if field == "commitment" else []
    )
    assert_rejected_everywhere(trial, prepared.job, ErrorCode.INVALID_JOB)


def test_job_with_another_researcher_s_signature_is_refused(
    trial: Trial, training: PreparedJob, researcher: Caller, other: Caller
) -> None:
    job, weights = training.job, training.initial_weights
    # Eve signs with her key under the researcher's name, over her own connection.
    forged = refusal(lambda: other.submit(job, party=LEAD, weights=weights, querier=job.querier))
    assert forged.code is ErrorCode.BAD_SIGNATURE
    # The researcher submits a job that names Eve as its querier.
    stolen = refusal(lambda: researcher.submit(replace(job, querier=OTHER_RESEARCHER), party=LEAD, weights=weights))
    assert stolen.code is ErrorCode.BAD_SIGNATURE
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            assert tables.jobs.find(job.job_id) is None


def test_job_whose_dealer_computes_is_refused(trial: Trial, training: PreparedJob, researcher: Caller) -> None:
    job = replace(training.job, dealer=SECOND)
    request = jobs_pb2.PlanJobRequest(job=job.to_bytes())
    error = refusal(lambda: researcher.call(methods.PLAN_JOB, request, party=LEAD))
    assert (error.code, [problem.where for problem in error.problems]) == (ErrorCode.INVALID_JOB, ["dealer"])
    error = refusal(lambda: researcher.submit(job, party=LEAD, weights=training.initial_weights))
    assert error.code is ErrorCode.INVALID_JOB


def test_model_with_an_operator_that_is_not_on_the_list_is_refused(
    trial: Trial, training: PreparedJob, researcher: Caller
) -> None:
    document = training.job.to_document()
    document["model"]["layers"].append(
        {"name": "activation", "kind": "lstm", "inputs": [document["model"]["layers"][-1]["name"]], "settings": {}}
    )
    error = refusal(lambda: researcher.submit(document, party=LEAD, weights=training.initial_weights))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "'activation'" in error.what
    assert "linear, convolution, max_pool" in error.what


def test_manifest_with_an_operator_that_is_not_on_the_list_is_refused_before_anything_is_sent(
    trial: Trial, training: PreparedJob
) -> None:
    document = training.job.model.to_document()
    layer = {"name": "tail", "kind": "lstm", "inputs": [document["layers"][-1]["name"]], "settings": {}}
    document["layers"].append(layer)
    (trial.folder / "unsupported.json").write_bytes(canonical_bytes(document))
    request = TrainRequest(
        api_version="confide/v1",
        type="train",
        computing_parties=COMPUTING,
        dealer=DEALER,
        datasets=[f"{LEAD}/train"],
        model_name="unsupported",
        manifest="unsupported.json",
        weights="model.safetensors",
        training=SHORT_TRAINING,
    )
    error = refusal(lambda: prepare_job(trial.client, request, folder=trial.folder, now=training.job.created))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "'tail'" in error.what


def test_evaluation_over_too_few_rows_is_refused_by_every_party(trial: Trial, trained: Completed, split: Split) -> None:
    trial.register(LEAD, "few", split.holdout[LEAD].head(19))
    prepared = trial.evaluate(trained.model, datasets=[f"{LEAD}/few"])
    error = refusal(lambda: trial.client.submit(prepared))
    assert error.code is ErrorCode.NOT_ENOUGH_ROWS
    assert {problem.where for problem in error.problems} == {f"{party} datasets" for party in HOSPITALS}
    assert all("at least 20" in problem.what for problem in error.problems)
    assert_rejected_everywhere(trial, prepared.job, ErrorCode.NOT_ENOUGH_ROWS)


def test_other_initial_weights_than_the_job_names_are_refused(trial: Trial, training: PreparedJob, researcher: Caller) -> None:
    altered = bytearray(training.initial_weights)
    altered[-1] ^= 1
    error = refusal(lambda: researcher.submit(training.job, party=LEAD, weights=bytes(altered)))
    assert error.code is ErrorCode.INVALID_JOB


@pytest.mark.parametrize("size", [0, -8, 8])
def test_query_share_of_another_size_is_refused(
    trial: Trial, trained: Completed, split: Split, researcher: Caller, size: int
) -> None:
    job = trial.infer(trained.model, split.samples).job
    right = 8 * len(split.samples) * 30
    share = bytes(right + size if size else 0)
    error = refusal(lambda: researcher.submit(job, party=LEAD, query_share=share))
    assert error.code is ErrorCode.INVALID_JOB
    assert f"{len(share)} bytes; {right} are expected" in error.what
    assert refusal(lambda: trial.client.progress(job.job_id, LEAD)).code is ErrorCode.UNKNOWN_JOB


def test_share_of_samples_to_the_dealer_is_refused(trial: Trial, trained: Completed, split: Split, researcher: Caller) -> None:
    job = trial.infer(trained.model, split.samples).job
    error = refusal(lambda: researcher.submit(job, party=DEALER, query_share=bytes(8 * len(split.samples) * 30)))
    assert error.code is ErrorCode.INVALID_JOB


def test_link_of_an_unknown_session_is_refused(trial: Trial) -> None:
    member = load_own_member(trial.network.party(SECOND).config, datetime.now(UTC))
    endpoint = member.directory.party(LEAD).endpoint
    with opened(tls_identity(member), endpoint, party=LEAD) as peer:
        assert asked(peer, LinkOpening("0" * 32, 1).to_bytes()) is ErrorCode.UNKNOWN_SESSION


def test_party_with_a_differing_plan_ends_the_job_before_any_worker_computes(trial: Trial, training: PreparedJob) -> None:
    end(trial.network.party(SECOND))
    trial.restart(SECOND, Program.ALTERED_PLAN)
    try:
        assert refusal(lambda: trial.client.plan(training.job)).code is ErrorCode.PLAN_DIFFERS
        trial.client.submit(training)
        assert_rejected_everywhere(trial, training.job, ErrorCode.PLAN_DIFFERS)
        assert all(model.job_id != training.job.job_id for party in COMPUTING for model in trial.client.models(party))
    finally:
        end(trial.network.party(SECOND))
        trial.restart(SECOND)
    trial.complete(trial.train(SHORT_TRAINING, model_name="afterwards"))
