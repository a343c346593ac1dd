"""The preview: exactly the plan's bytes by peer and purpose, who learns what, constraints in words, and strict reading."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from governance.preview import WITHOUT_NOISE, Preview, constraint_in_words, make_preview
from governance.preview_flows import flows_by_peer
from parties.cli.preview_words import describe_measured, measured_in_words, preview_in_words
from parties.server.board import Measured
from privacy.accounting.statement import NO_GUARANTEE
from protocols.canonical import canonical_bytes
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Job, JobType, Output, OutputKind, Summary
from protocols.model.layers import Flatten
from protocols.model.spec import ModelSpec
from protocols.mpc.planning import derive_plan
from protocols.plan.estimate import LOOPBACK, estimate
from protocols.plan.plan import Plan
from tests.support.jobs import a_training, an_evaluation, an_inference
from tests.support.members import a_world
from tests.support.parts import in_parts

DIRECTORY = a_world().directory
SUMMARY = replace(
    an_evaluation(),
    job_type=JobType.SUMMARISE,
    model=ModelSpec.chain(3, rows=Flatten()),
    model_ref=None,
    outputs=(Output("centroids", OutputKind.CENTROIDS, "alice", 7),),
    summary=Summary(4, 1, 2, "5a" * 16),
)
JOBS = {"train": a_training(), "evaluate": an_evaluation(), "summarise": SUMMARY, "infer": an_inference()}
PLANS = {name: derive_plan(job) for name, job in JOBS.items()}
TERMINAL = 100
RANGES = ("first: its result is not proven to stay below 2^20",)
EVERY = [(name, party) for name, job in JOBS.items() for party in job.participants]


def preview(job: Job, plan: Plan, party: str) -> Preview:
    cost = estimate(plan, LOOPBACK)
    return make_preview(
        job,
        plan,
        cost,
        party=party,
        directory=DIRECTORY,
        agreement="cardio-2026",
        grants=("0f" * 16,),
        ranges=RANGES,
        budgets=("dataset/patients: 3 of 50 queries",),
    )


@pytest.mark.parametrize(("name", "party"), EVERY)
def test_preview_flows_are_the_plan_s_directions_and_the_querier_s_shares(name: str, party: str) -> None:
    job, plan = JOBS[name], PLANS[name]
    found = preview(job, plan, party)
    sent = {d.receiver: d.total_bytes for d in plan.directions if d.sender == party}
    received = {d.sender: d.total_bytes for d in plan.directions if d.receiver == party}
    assert flows_by_peer(found.sends, querier="alice") == sent
    assert flows_by_peer(found.receives, querier="alice") == received
    to_querier = sum(flow.outputs for flow in found.sends)
    computes = party in job.computing_parties
    assert to_querier * len(job.computing_parties) == (plan.output_bytes if computes else 0)
    from_querier = sum(flow.outputs for flow in found.receives)
    assert from_querier == (8 * 5 * 3 if name == "infer" and computes else 0)


@pytest.mark.parametrize(("name", "party"), EVERY)
def test_preview_is_read_back_as_it_was_written(name: str, party: str) -> None:
    found = preview(JOBS[name], PLANS[name], party)
    assert Preview.from_bytes(found.to_bytes()) == found


def test_preview_sums_over_all_parties_are_the_plan_s_bytes() -> None:
    for name, job in JOBS.items():
        found = [preview(job, PLANS[name], party) for party in job.participants]
        sent = sum(sum(flows_by_peer(p.sends, querier="alice").values()) for p in found)
        assert sent == PLANS[name].payload_bytes == sum(sum(flows_by_peer(p.receives, querier="alice").values()) for p in found)


def test_preview_of_a_training_opens_nothing_and_leaves_a_model() -> None:
    found = preview(JOBS["train"], PLANS["train"], "hospital-a")
    assert (found.epsilon, found.outputs, found.model) == (NO_GUARANTEE, (), f"diagnosis@{found.job[:12]}")
    assert found.roles == ("data owner", "computing party", "lead")
    assert dict(found.learns)["alice"] == "that the job completed, and what it cost"
    learnt = "2 bit(s): whether the numbers are in range, at the end of every epoch"
    assert ("hospital-a, hospital-b", learnt) in found.learns
    assert found.disk_bytes > 0


def test_preview_of_an_evaluation_names_output_constraint_and_recipient() -> None:
    found = preview(JOBS["evaluate"], PLANS["evaluate"], "hospital-c")
    (output,) = found.outputs
    assert (output.name, output.kind, output.recipient) == ("correct", "correct_count", "alice")
    assert output.constraint == "nothing about fewer than 5 rows"
    assert (found.epsilon, found.model, found.roles) == (WITHOUT_NOISE, "", ("data owner", "dealer"))
    assert (found.rounds, found.disk_bytes) == (0, 0)


def test_preview_of_a_summary_claims_no_more_than_a_least_group() -> None:
    found = preview(JOBS["summarise"], PLANS["summarise"], "hospital-b")
    (output,) = found.outputs
    assert (output.kind, output.recipient, output.shape) == ("centroids", "alice", (4, 4))
    assert output.constraint == "no group of fewer than 7 rows; exact means of the others"
    # The mean of a column of 0 and 1 times the size of its group is a count, which no least group bounds.
    assert ("alice", "how many rows of a group have 1 in a column of 0 and 1, however few") in found.learns
    assert (found.epsilon, found.model, found.job_type) == (WITHOUT_NOISE, "", "summarise")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Output("p", OutputKind.LABEL, "alice"), "the class only"),
        (Output("p", OutputKind.PROBABILITY, "alice"), "none"),
        (
            Output("p", OutputKind.PROBABILITY, "alice", 0, 2, 3, "0.01"),
            "the 2 most probable class(es) only; rounded to 3 decimal(s); clipped to [0.01, 1 - 0.01]",
        ),
        (Output("p", OutputKind.VALUE, "alice", 0, 0, 0, "0.0"), "rounded to 0 decimal(s)"),
    ],
)
def test_constraint_in_words(output: Output, words: str) -> None:
    assert constraint_in_words(output) == words


def test_preview_says_what_the_dealer_and_one_computing_party_learn_together() -> None:
    for name, job in JOBS.items():
        learns = dict(preview(job, PLANS[name], "hospital-a").learns)
        assert "unless a computing party pools with it" in learns[job.dealer]
        pooled = {"infer": "samples, weights and outputs", "summarise": "rows and outputs"}
        assert learns["who pools so"] == pooled.get(name, "rows, weights and outputs")


def test_preview_of_columns_says_whose_people_everybody_learns_to_be_the_same() -> None:
    job = in_parts(JOBS["train"])
    found = preview(job, PLANS["train"], "hospital-c")
    assert ("everybody", "that the data sets are columns of the same 100 people in one order") in found.learns
    assert ("everybody", "that hospital-a/patients has the label") in found.learns
    assert ("hospital-a, hospital-c", "that the others hold everybody in its own list") in found.learns
    assert Preview.from_bytes(found.to_bytes()) == found
    assert max(len(line) for line in preview_in_words(found).splitlines()) <= TERMINAL
    assert "everybody" not in dict(preview(JOBS["train"], PLANS["train"], "hospital-c").learns)


def test_preview_in_words_shows_every_part_within_a_terminal() -> None:
    for name, party in EVERY:
        text = preview_in_words(preview(JOBS[name], PLANS[name], party))
        assert max(len(line) for line in text.splitlines()) <= TERMINAL
        for part in ("leaves this site", "comes in", "rounds", "epsilon", "learns", "stays here", "grants used here"):
            assert part in text
        assert "cardio-2026" in text


def test_measured_beside_planned_names_every_peer_of_both() -> None:
    plan = PLANS["train"]
    found = preview(JOBS["train"], plan, "hospital-a")
    planned = flows_by_peer(found.sends, querier="alice")
    measured = Measured(rounds=plan.rounds, sent_bytes={**planned, "stranger": 5}, elapsed_ms=65_000, memory_bytes=1 << 28)
    said = describe_measured(found, measured)
    assert said["sent"] == {
        **{peer: {"planned": count, "measured": count} for peer, count in planned.items()},
        "stranger": {"planned": 0, "measured": 5},
    }
    text = measured_in_words(found, measured)
    assert "sent to stranger" in text
    assert "1.1 minutes" in text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": "confide.preview/1"}, "format"),
        ({"rounds": -1}, "rounds"),
        ({"rounds": "many"}, "rounds"),
        ({"sends": [{"peer": "x"}]}, "sends.0.corrections"),
        ({"learns": [1]}, "learns.0"),
        ({"outputs": [{"name": "a", "kind": "b", "recipient": "c", "shape": [-1], "constraint": ""}]}, "outputs.0.shape"),
        ({"grants": [1]}, "grants"),
        ({"more": 1}, "more"),
    ],
)
def test_preview_with_a_broken_field_is_refused(change: dict[str, object], where: str) -> None:
    document = {**json.loads(preview(JOBS["train"], PLANS["train"], "hospital-a").to_bytes()), **change}
    with pytest.raises(ConfideError) as caught:
        Preview.from_bytes(canonical_bytes(document))
    assert caught.value.code is ErrorCode.INVALID_DOCUMENT
    assert where in [problem.where for problem in caught.value.problems]


def test_preview_of_a_querier_whom_nobody_knows_names_no_institution() -> None:
    found = preview(replace(JOBS["train"], querier="mallory"), PLANS["train"], "hospital-a")
    assert found.institution == ""
