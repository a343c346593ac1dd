"""Approvals over real processes: a policy changed while its party serves, a job that waits, and planned beside measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from governance.policy.approval import Answer
from governance.preview_flows import flows_by_peer
from parties.approving import answer, pending, show_job
from parties.client.client import PreparedJob
from parties.config import PartyConfig
from parties.harness_consent import OFFICER, person_folder
from protocols.errors import ErrorCode
from protocols.session.states import State
from tests.support.trial import DEALER, HOSPITALS, JOB_WITHIN_S, SHORT_TRAINING, Completed, Trial

pytestmark = pytest.mark.multiparty

# The policy of the harness, and before it a rule that matches these tests' jobs alone.
RULE = """rules:
  - name: officers-decide
    match: {job_types: [train], model_names: [approved]}
    decision: {approve: {needed: 1, of: [privacy-officers]}}
"""


@pytest.fixture(scope="module")
def asking(trial: Trial) -> Iterator[PartyConfig]:
    """A hospital whose policy asks its officer about some trainings; changed while the party serves, and back afterwards."""
    config = trial.network.party(DEALER).config
    before = config.policy.read_text()
    changed = before.replace("rules: []\n", RULE)
    assert changed != before
    config.policy.write_text(changed)
    yield config
    config.policy.write_text(before)


def waiting(trial: Trial, asking: PartyConfig) -> PreparedJob:
    """A job that waits at the hospital that asks."""
    prepared = trial.train(SHORT_TRAINING, model_name="approved")
    now = datetime.now(UTC).replace(microsecond=0)
    later = replace(prepared.job, agree_by=now + timedelta(minutes=20), expires=now + timedelta(minutes=40))
    prepared = replace(prepared, job=later)
    trial.client.submit(prepared)
    deadline = time.monotonic() + JOB_WITHIN_S
    while prepared.job.job_id not in [entry.job.job_id for entry in pending(asking)]:
        assert time.monotonic() < deadline, trial.progress(prepared.job)
        time.sleep(0.1)
    return prepared


def answered(asking: PartyConfig, prepared: PreparedJob, said: Answer, comment: str = "") -> None:
    folder = person_folder(asking, OFFICER)
    answer(asking, folder, prepared.job.job_id, said, comment=comment, now=datetime.now(UTC))


def test_job_runs_once_the_officer_has_approved(trial: Trial, asking: PartyConfig) -> None:
    assert trial.client.calls.plan(trial.train(SHORT_TRAINING, model_name="approved").job).rounds > 0
    prepared = waiting(trial, asking)
    said = {party.party: party for party in trial.client.explain(prepared.job.job_id)}
    assert said[DEALER].in_words == "waits for 1 of 1 approval(s) (rule officers-decide)"
    assert [said[party].in_words for party in HOSPITALS if party != DEALER] == ["takes part (rule otherwise)"] * 2
    assert {p.state for p in trial.progress(prepared.job).values()} == {State.PROPOSED.value}
    answered(asking, prepared, Answer.APPROVE)
    endings = trial.endings(prepared.job, within_s=JOB_WITHIN_S)
    assert {ending.state for ending in endings.values()} == {State.COMPLETED}


def test_denied_job_ends_as_rejected_everywhere_with_the_reason(trial: Trial, asking: PartyConfig) -> None:
    prepared = waiting(trial, asking)
    answered(asking, prepared, Answer.DENY, "the purpose is too wide")
    endings = trial.endings(prepared.job)
    assert {(ending.state, ending.code) for ending in endings.values()} == {(State.REJECTED, ErrorCode.APPROVAL_DENIED.name)}
    assert all(f"{DEALER} refuses the job" in ending.cause for ending in endings.values())
    assert all("the purpose is too wide" in ending.cause for ending in endings.values())


def test_preview_after_the_run_shows_measured_bytes_by_peer_equal_to_the_plan_s(trial: Trial, trained: Completed) -> None:
    for party in HOSPITALS:
        shown = show_job(trial.network.party(party).config, trained.job.job_id)
        preview, measured = shown.preview, shown.measured
        assert measured is not None
        querier = trained.job.querier
        sent, received = flows_by_peer(preview.sends, querier=querier), flows_by_peer(preview.receives, querier=querier)
        assert {peer: count for peer, count in measured.sent_bytes.items() if count} == sent
        assert {peer: count for peer, count in measured.received_bytes.items() if count} == received
        assert measured.rounds == preview.rounds
        assert measured.elapsed_ms > 0
        assert measured.memory_bytes > 1 << 20
        assert sum(sent.values()) == trained.plan.sent_bytes(party)
        assert preview.plan_digest == trained.plan.digest
        assert preview.grants
