"""Warm serving from end to end: answers as the plain model's, no process for a query, and quota, log and budgets that agree."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from governance.budget.ledger import Step
from governance.consent.revocation import Effect
from parties import harness
from parties.cli.main import app
from parties.client import JobFailed, NotReady, Placement
from parties.client.client import Client
from parties.client.failures import BudgetExhausted, PartyUnavailable
from parties.client.serving import ServingHandle
from parties.grants import revoke_grant
from parties.servings import end_serving
from parties.storage.serving import Served
from parties.wire import methods
from parties.wire.generated.confide.v1 import serving_pb2
from privacy.preparation.contract import prepare_query
from privacy.preparation.query_commitment import verify_query
from protocols.errors import ConfideError, ErrorCode
from protocols.fixed_point import VALUE_BITS
from protocols.model import reference
from protocols.mpc.programs.names import OPEN_MODEL
from protocols.session.states import State
from tests.support.callers import Caller
from tests.support.processes import descendants
from tests.support.serving_ledgers import charges_of, queries_of
from tests.support.shares import open_model
from tests.support.tables import breast_cancer_schema
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, LEAD, MODEL, SECOND, Completed, Split, Trial

pytestmark = pytest.mark.multiparty
FEATURES = 30
ENDS_WITHIN_S = 20.0
REKEY_S = 1
_POLL_S = 0.1


@pytest.fixture(scope="module")
def client(trial: Trial) -> Iterator[Client]:
    now = datetime.now(UTC)
    with Client.open(trial.network.researcher_config, now=now, placement=Placement(tuple(COMPUTING), DEALER)) as client:
        yield client


@pytest.fixture(scope="module")
def serving(client: Client, trained: Completed) -> ServingHandle:
    """A serving that the tests of this module use up, in their order."""
    return client.serve(trained.model, block_rows=16, max_queries=6, max_rows=60, idle_s=60, lifetime_s=300, rekey_s=REKEY_S)


def test_answers_are_the_plain_model_s_and_no_process_is_started(
    trial: Trial, trained: Completed, serving: ServingHandle, split: Split, client: Client
) -> None:
    before = _workers(trial)
    weights = open_model(trial, trained.job)
    features = breast_cancer_schema().scale(split.samples.to_numpy())
    logits = reference.logits(MODEL, weights, features)[:, 0]
    # A feature is off by half a unit of its encoding, the product by one unit of its truncation.
    margin = np.abs(weights["linear.weight"]).sum() * 2.0 ** -(VALUE_BITS + 1) + 2.0**-VALUE_BITS
    # One row, a block and a half, and a frame whose index comes back; the first by the serving, the others by whatever is warm.
    answers = [
        serving.predict(split.samples.to_numpy()[:1]),
        client.predict(trained.model, split.samples.to_numpy()[1:25]),
    ]
    framed = client.predict(trained.model, split.samples[25:40])
    assert isinstance(framed, pd.DataFrame)
    assert list(framed.index) == list(split.samples.index[25:40])
    labels = np.concatenate([*map(np.asarray, answers), framed["label"].to_numpy()])
    certain = np.abs(logits) > margin
    assert certain.mean() > 0.9, "the margin leaves nothing to compare"
    np.testing.assert_array_equal(labels[certain], (logits >= 0).astype(np.int64)[certain])
    assert _workers(trial) == before
    assert (serving.state.is_warm, serving.state.rows_left) == (True, 20)


def test_every_query_stands_in_the_computing_parties_logs_and_only_its_querier_can_open_it(
    trial: Trial, serving: ServingHandle, split: Split, client: Client
) -> None:
    logged = {party: queries_of(trial, party, serving.job.job) for party in HOSPITALS}
    assert logged[DEALER] == []
    assert logged[LEAD] == logged[SECOND]
    assert [(entry["rows"], entry["querier"], entry["model"]) for entry in logged[LEAD]] == [
        (rows, harness.RESEARCHER, serving.model) for rows in (1, 24, 15)
    ]
    scaled = prepare_query(split.samples.to_numpy()[:1], breast_cancer_schema()).features
    first = logged[LEAD][0]
    salt = client.servings.query_salt(serving.job.job, str(first["query"]))
    assert verify_query(str(first["commitment"]), scaled, salt=salt)


def test_budget_whole_quota_is_reserved_while_it_is_served(trial: Trial, serving: ServingHandle) -> None:
    for party in COMPUTING:
        assert charges_of(trial, party, serving.job.job) == {Step.RESERVE: (6, 60)}
    assert charges_of(trial, DEALER, serving.job.job) == {}


def test_command_asks_the_warm_model_and_lists_what_is_left(
    trial: Trial, trained: Completed, serving: ServingHandle, split: Split
) -> None:
    before = _workers(trial)
    file = trial.folder / "asked.csv"
    split.samples[:4].to_csv(file, index=False)
    said = _confide(trial, "infer", trained.model, str(file))
    assert (said["job"], said["type"], len(said["outputs"]["prediction"])) == (serving.id, "serve", 4)
    (listed,) = _confide(trial, "serve", "list")["servings"]
    assert [(at["party"], at["queries_left"], at["rows_left"]) for at in listed["at"] if at["party"] in COMPUTING] == [
        (party, 2, 16) for party in COMPUTING
    ]
    assert _workers(trial) == before


def test_queries_that_do_not_fit_are_refused_with_what_would(
    serving: ServingHandle, researcher: Caller, trained: Completed
) -> None:
    def refusal(party: str = LEAD, **changes: object) -> ConfideError:
        fields = {"query": secrets.token_hex(16), "num_rows": 1, "commitment": "ab" * 32, "share": bytes(8 * FEATURES)}
        request = serving_pb2.AskRequest(job_id=serving.id, **fields | changes)
        with pytest.raises(ConfideError) as caught:
            researcher.call(methods.ASK, request, party=party)
        return caught.value

    assert refusal(share=bytes(8)).code is ErrorCode.INVALID_ARGUMENT
    assert f"{FEATURES} features of 8 bytes" in refusal(share=bytes(8)).what
    assert refusal(query="short").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(commitment="").code is ErrorCode.INVALID_ARGUMENT
    assert refusal(party=DEALER).code is ErrorCode.INVALID_ARGUMENT
    too_many = refusal(num_rows=17, share=bytes(8 * FEATURES * 17))
    assert (too_many.code, "2 queries and 16 rows are left" in too_many.what) == (ErrorCode.QUOTA_EXHAUSTED, True)
    with pytest.raises(BudgetExhausted):
        serving.predict(np.tile(_middle(), (17, 1)))


def test_other_researchers_see_nothing_of_it(serving: ServingHandle, other: Caller) -> None:
    listed = other.call(methods.LIST_SERVINGS, serving_pb2.ListServingsRequest(), party=LEAD)
    assert list(listed.servings) == []
    asked = serving_pb2.AskRequest(
        job_id=serving.id, query="ab" * 16, num_rows=1, commitment="ab" * 32, share=bytes(8 * FEATURES)
    )
    for method, request in ((methods.ASK, asked), (methods.STOP_SERVING, serving_pb2.StopServingRequest(job_id=serving.id))):
        with pytest.raises(ConfideError) as caught:
            other.call(method, request, party=LEAD)
        assert caught.value.code is ErrorCode.UNKNOWN_JOB
    assert serving.state.is_warm


def test_second_serving_of_one_model_is_refused_while_the_first_is_open(
    client: Client, trained: Completed, serving: ServingHandle
) -> None:
    with pytest.raises(PartyUnavailable, match="1 serving"):
        client.serve(trained.model, max_queries=1, max_rows=1)
    assert serving.state.is_warm


def test_stop_gives_back_what_was_not_used_at_every_holder_alike(trial: Trial, serving: ServingHandle, split: Split) -> None:
    time.sleep(REKEY_S + 0.5)  # longer than the parties go on without fresh keys while nobody asks
    ending = serving.stop()
    assert ending is not None
    assert ending.state is State.COMPLETED
    for party, said in trial.progress(serving.job.job).items():
        epochs = [entry.runs for entry in said.timing if entry.segment == OPEN_MODEL]
        assert len(epochs) == 1, party
        assert epochs[0] >= 2, f"fresh keys were drawn at {party} in between"
    endings = trial.endings(serving.job.job, within_s=ENDS_WITHIN_S)
    assert {each.state for each in endings.values()} == {State.COMPLETED}
    for party in COMPUTING:
        charged = charges_of(trial, party, serving.job.job)
        assert charged == {Step.RESERVE: (6, 60), Step.COMMIT: (4, 44), Step.REFUND: (2, 16)}
    with pytest.raises(NotReady, match="not warm"):
        serving.predict(split.samples.to_numpy()[:1])


def test_revocation_ends_the_serving_and_counts_what_was_answered(
    trial: Trial, trained: Completed, split: Split, client: Client
) -> None:
    with trial.tables(LEAD) as tables:
        record = tables.datasets.get("train", 1)
    # The grant that lasts longest is the one that the job rests on; the model rests on the one before.
    config = trial.network.party(LEAD).config
    grant = harness.permit(config, record)
    handle = client.serve(trained.model, max_queries=3, max_rows=30)
    handle.predict(split.samples.to_numpy()[:5])
    steward, now = harness.person_folder(config, harness.STEWARD), datetime.now(UTC)
    revoke_grant(config, steward, grant.grant_id, reason="a patient asked", effect=Effect.STOP, now=now)
    endings = trial.endings(handle.job.job, within_s=ENDS_WITHIN_S)
    assert {(ending.state, ending.code) for ending in endings.values()} == {(State.ABORTED, "GRANT_REVOKED")}
    for party in COMPUTING:
        charged = charges_of(trial, party, handle.job.job)
        assert charged == {Step.RESERVE: (3, 30), Step.COMMIT: (1, 5), Step.REFUND: (2, 25)}
    with pytest.raises(NotReady):
        handle.predict(split.samples.to_numpy()[:1])
    with pytest.raises(JobFailed, match="GRANT_REVOKED"):
        handle.stop()


def test_institution_that_computes_ends_a_serving_and_a_dealer_does_not(trial: Trial, trained: Completed, client: Client) -> None:
    handle = client.serve(trained.model, max_queries=3, max_rows=30)
    dealer, second = (trial.network.party(party).config for party in (DEALER, SECOND))
    now = datetime.now(UTC)
    with pytest.raises(ConfideError) as caught:
        end_serving(dealer, harness.person_folder(dealer, harness.STEWARD), handle.id, now=now)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(ConfideError) as caught:
        end_serving(second, harness.person_folder(second, harness.OPERATOR), handle.id, now=now)
    assert caught.value.code is ErrorCode.NOT_AUTHORISED
    end_serving(second, harness.person_folder(second, harness.STEWARD), handle.id[:12], now=now)
    endings = trial.endings(handle.job.job, within_s=ENDS_WITHIN_S)
    assert {ending.state for ending in endings.values()} == {State.COMPLETED}
    with trial.tables(SECOND) as tables:
        assert tables.serving.end_of(handle.id) == ("stopped", Served(0, 0))
    for party in COMPUTING:
        assert charges_of(trial, party, handle.job.job) == {Step.RESERVE: (3, 30), Step.REFUND: (3, 30)}


def _workers(trial: Trial) -> dict[str, list[int]]:
    """Every process of every party, once no plan is being derived any more."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        first = {party: sorted(descendants(trial.network.party(party).pid)) for party in HOSPITALS}
        time.sleep(_POLL_S)
        second = {party: sorted(descendants(trial.network.party(party).pid)) for party in HOSPITALS}
        if first == second or time.monotonic() > deadline:
            return second


def _confide(trial: Trial, *arguments: str) -> dict[str, Any]:
    """Runs a researcher's command in this process and returns its data."""
    config = str(trial.network.researcher_config)
    result = CliRunner().invoke(app, [*arguments, "--config", config, "--format", "json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout)["data"])


def _middle() -> np.ndarray:
    """One sample in the middle of every feature's range."""
    low, high = np.array([column.bounds for column in breast_cancer_schema().features]).T
    return (low + high) / 2
