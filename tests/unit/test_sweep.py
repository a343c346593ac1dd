"""Sweeps of private trainings: what they charge, what is kept when a job fails, how they go on, and what is on the front."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parties.cli.sweep_words import charges_in_words, describe_sweep, sweep_in_words
from parties.client.client import PreparedJob
from parties.client.requests import AssessRequest, EvaluateRequest, TrainRequest
from parties.client.sweep import SweepEnd, SweepPlan, SweepRequest, plan_sweep, run_sweep
from parties.client.sweep_request import SweepTerms, read_training, sweep_file, sweep_request
from parties.client.sweep_rows import Step, SweepFile, SweepRow
from privacy.accounting.noisy_answers import spent_together
from privacy.figures import Figure
from privacy.utility.front import Candidate, front
from protocols.errors import ConfideError, ErrorCode
from protocols.job import Assessment, Job, JobType, Output, OutputKind
from protocols.session.messages import Ending
from protocols.session.states import State
from tests.support.jobs import TRAINING, a_dataset, a_training, an_evaluation
from tests.support.private_training import terms

PARTIES = ("hospital-a", "hospital-b", "hospital-c")
REQUEST = """api_version: confide/v1
type: train
computing_parties: [hospital-a, hospital-b]
dealer: hospital-c
datasets: [hospital-a/patients, hospital-b/patients, hospital-c/patients]
model_name: diagnosis
manifest: model.json
weights: model.safetensors
training:
  epochs: 10
  learning_rate: "0.5"
  privacy: {mechanism: shared_gradients, colluders: 1, nominal_rows: 300, norm_bound: "1", epsilon: "7", delta: "0.0001"}
"""
TERMS = SweepTerms(
    epsilons=("1", "3"),
    noise_multipliers=(),
    norm_bounds=(),
    holdout=("hospital-a/holdout", "hospital-b/holdout"),
    measure="correct_count",
    group_by="",
    group_edges=(),
    gap="accuracy",
    attack=None,
    shadows=16,
    min_cell=5,
    noise="0",
    noise_colluders=None,
    rows_per_person=1,
)
WITH_ATTACK = replace(TERMS, attack="lira")
THRESHOLDS = ("-1", "0", "1")


class Parties:
    """Parties that do as they are told: how many rows each model gets right, and which jobs end badly or are refused."""

    def __init__(self, correct: Mapping[str, int], *, aborted: tuple[str, ...] = (), refused: tuple[str, ...] = ()) -> None:
        self.correct, self.aborted, self.refused = correct, aborted, refused
        self.submitted: list[str] = []
        self._jobs: dict[str, Job] = {}
        self._words: dict[str, str] = {}
        self._made = 0

    def prepare(self, request: TrainRequest | EvaluateRequest | AssessRequest) -> PreparedJob:
        self._made += 1
        nonce = f"{self._made:032x}"
        if isinstance(request, TrainRequest):
            asked = request.training.privacy
            assert asked is not None
            privacy = terms(300, epsilon=asked.epsilon, delta="0.0001", norm_bound=asked.norm_bound)
            job = a_training(model_name=request.model_name, training=replace(TRAINING, privacy=privacy), nonce=nonce)
            words = f"train {request.model_name}"
        else:
            name = request.model.partition("@")[0]
            produced = {job.produced_model.label: job for job in self._jobs.values() if job.produced_model is not None}
            trained = produced[request.model]
            job = replace(self.draft(trained, request), nonce=nonce)
            words = f"{request.type} {name}"
        self._words[job.job_id] = words
        return PreparedJob(job)

    def draft(self, training: Job, request: EvaluateRequest | AssessRequest) -> Job:
        names = [dataset.partition("/")[::2] for dataset in request.datasets]
        job = an_evaluation(model_ref=training.produced_model, datasets=tuple(a_dataset(*name) for name in names))
        if isinstance(request, EvaluateRequest):
            return job
        counts = Output("attack-counts", OutputKind.ATTACK_COUNTS, "alice", 5)
        attack = Assessment((0, 1, 2), THRESHOLDS, request.attack, request.shadows)
        return replace(job, job_type=JobType.ASSESS, outputs=(counts,), assessment=attack)

    def submit(self, prepared: PreparedJob) -> None:
        words = self._words[prepared.job.job_id]
        if words in self.refused:
            raise ConfideError(ErrorCode.BUDGET_EXHAUSTED, "no more of it", party="hospital-b")
        self.submitted.append(words)
        self._jobs[prepared.job.job_id] = prepared.job

    def job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise ConfideError(ErrorCode.UNKNOWN_JOB)
        return self._jobs[job_id]

    def wait(self, job: Job, *, now: bool) -> Ending:
        state = State.ABORTED if self._words[job.job_id] in self.aborted else State.COMPLETED
        code = "" if state is State.COMPLETED else "PEER_LOST"
        return Ending(job.job_id, 1, state, code, State.RUNNING, "", "", "", PARTIES[0], "2026-03-01T12:00:00Z", True, {})

    def result(self, job: Job) -> dict[str, Any]:
        if job.assessment is not None:
            return {"attack-counts": np.array([[200, 100], [150, 50], [60, 20]])}
        assert job.model_ref is not None
        return {"correct": np.array([self.correct[job.model_ref.name]])}


def a_request(folder: Path, asked: SweepTerms = TERMS) -> SweepRequest:
    return sweep_request(a_training_request(folder), asked)


def a_training_request(folder: Path, text: str = REQUEST) -> TrainRequest:
    path = folder / "train.yaml"
    path.write_text(text)
    (folder / "model.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return read_training(path)


def run(plan: SweepPlan, parties: Parties, file: SweepFile) -> SweepEnd:
    return run_sweep(plan, parties, keep=file.write, tell=lambda line: None)


def a_file(folder: Path) -> SweepFile:
    return SweepFile(folder / "sweeps" / "sweep.json", "ab" * 32)


def figure(value: float) -> Figure:
    return Figure(value, value, value)


def test_every_model_is_trained_and_evaluated_before_the_next_and_named_by_its_epsilon(tmp_path: Path) -> None:
    parties = Parties({"diagnosis-e1": 150, "diagnosis-e3": 180})
    end = run(plan_sweep(a_request(tmp_path), parties, []), parties, a_file(tmp_path))
    assert end.failure is None
    assert parties.submitted == [
        "train diagnosis-e1", "evaluate diagnosis-e1", "train diagnosis-e3", "evaluate diagnosis-e3",
    ]  # fmt: skip
    assert [row.figures["accuracy"].value for row in end.rows] == [0.75, 0.9]
    assert [row.to_document() for row in a_file(tmp_path).read()] == [row.to_document() for row in end.rows]


def test_charges_of_the_whole_sweep_are_sums_over_its_jobs_at_every_owner(tmp_path: Path) -> None:
    plan = plan_sweep(a_request(tmp_path, WITH_ATTACK), Parties({}), [])
    told = {(charge.party, charge.account): charge for charge in plan.charges}
    assert set(told) == {(party, "dataset/patients") for party in PARTIES} | {(party, "dataset/holdout") for party in PARTIES[:2]}
    for party in PARTIES:
        charge = told[party, "dataset/patients"]
        assert (charge.trainings.epsilon, charge.trainings.delta) == (Decimal(4), Decimal("0.0002"))
        # Two assessments of two counts at three thresholds; two trainings.
        assert (charge.outputs.epsilon, charge.total.queries, charge.total.answers) == (None, 4, 12)
    held_out = told["hospital-a", "dataset/holdout"]
    assert (held_out.trainings.epsilon, held_out.total.queries, held_out.total.answers) == (Decimal(0), 4, 14)
    words = charges_in_words(plan)
    assert "without noise" in words
    lines = [line.split() for line in words.splitlines()]
    trainings = told["hospital-b", "dataset/patients"].trainings
    assert trainings.composed_epsilon is not None
    assert trainings.composed_epsilon <= 4
    composed = [*trainings.epsilon_in_words.split(), "and", "no", "bound"]
    assert ["hospital-b", "dataset/patients", *composed, "0.0002", "4", "12"] in lines
    assert ["hospital-a", "dataset/holdout", "no", "bound", "0", "4", "14"] in lines


@pytest.mark.parametrize("faults", [{"aborted": ("train diagnosis-e3",)}, {"refused": ("train diagnosis-e3",)}])
def test_job_that_is_refused_or_fails_stops_the_sweep_and_what_was_made_is_kept(tmp_path: Path, faults: dict[str, Any]) -> None:
    asked = replace(TERMS, epsilons=("1", "3", "9"))
    correct = {"diagnosis-e1": 150, "diagnosis-e3": 180, "diagnosis-e9": 190}
    parties, file, request = Parties(correct, **faults), a_file(tmp_path), a_request(tmp_path, asked)
    plan = plan_sweep(request, parties, [])
    end = run(plan, parties, file)
    assert end.failure is not None
    assert not any("e9" in words for words in parties.submitted)
    assert [row.done for row in file.read()] == [(Step.TRAIN, Step.EVALUATE), (), ()]
    # The training that failed may have been charged all the same.
    described = describe_sweep(plan, end, kept_in="here")
    assert (described["charged_at_most"], described["is_complete"]) == (
        {"epsilon": "4", "delta": "0.0002", "trainings": 2},
        False,
    )
    again = plan_sweep(request, parties, file.read())
    parties.aborted = parties.refused = ()
    parties.submitted.clear()
    assert {charge.trainings.epsilon for charge in again.charges if "patients" in charge.account} == {Decimal(12)}
    assert run(again, parties, file).failure is None
    assert parties.submitted == [
        "train diagnosis-e3", "evaluate diagnosis-e3", "train diagnosis-e9", "evaluate diagnosis-e9",
    ]  # fmt: skip
    assert [row.begun for row in file.read()] == [1, 2, 1]
    done = plan_sweep(request, parties, file.read())
    assert (done.is_done, done.charges) == (True, ())


def test_job_that_was_submitted_before_is_waited_for_and_not_charged_again(tmp_path: Path) -> None:
    parties, file, request = (
        Parties({"diagnosis-e1": 150}),
        a_file(tmp_path),
        a_request(tmp_path, replace(TERMS, epsilons=("1",))),
    )
    prepared = parties.prepare(request.trainings["diagnosis-e1"])
    parties.submit(prepared)
    row = SweepRow("diagnosis-e1", "1", "0.0001", "2", "1", jobs={Step.TRAIN: prepared.job.job_id}, begun=1)
    file.write([row])
    plan = plan_sweep(request, parties, file.read())
    assert {charge.account for charge in plan.charges} == {"dataset/holdout"}
    end = run(plan, parties, file)
    assert parties.submitted == ["train diagnosis-e1", "evaluate diagnosis-e1"]
    assert end.rows[0].begun == 1


def test_job_that_never_left_is_submitted_again(tmp_path: Path) -> None:
    parties, file = Parties({"diagnosis-e1": 150}), a_file(tmp_path)
    row = SweepRow("diagnosis-e1", "1", "0.0001", "2", "1", jobs={Step.TRAIN: "ef" * 16}, begun=1)
    plan = plan_sweep(a_request(tmp_path, replace(TERMS, epsilons=("1",))), parties, [row])
    assert run(plan, parties, file).failure is None
    assert parties.submitted == ["train diagnosis-e1", "evaluate diagnosis-e1"]


def test_settings_may_be_added_later_and_what_the_others_charged_is_still_told(tmp_path: Path) -> None:
    parties, file = Parties({"diagnosis-e1": 150, "diagnosis-e3": 180}), a_file(tmp_path)
    for epsilon in ("1", "3"):
        plan = plan_sweep(a_request(tmp_path, replace(TERMS, epsilons=(epsilon,))), parties, file.read())
        end = run(plan, parties, file)
    assert {row.name for row in file.read()} == {"diagnosis-e1", "diagnosis-e3"}
    assert describe_sweep(plan, end, kept_in="here")["charged_at_most"] == {"epsilon": "4", "delta": "0.0002", "trainings": 2}


def test_training_that_would_charge_something_else_than_was_said_is_not_submitted(tmp_path: Path) -> None:
    parties = Parties({})
    plan = plan_sweep(a_request(tmp_path), parties, [])
    changed = replace(plan, rows=tuple(replace(row, epsilon="0.5") for row in plan.rows))
    end = run(changed, parties, a_file(tmp_path))
    assert end.failure is not None
    assert parties.submitted == []


def test_words_show_figures_front_and_charges_beside_one_another(tmp_path: Path) -> None:
    # The larger epsilon is no more useful: only the smaller one is on the front.
    parties = Parties({"diagnosis-e1": 150, "diagnosis-e3": 150})
    plan = plan_sweep(a_request(tmp_path, WITH_ATTACK), parties, [])
    end = run(plan, parties, a_file(tmp_path))
    lines = sweep_in_words(plan, end).splitlines()
    assert [line.startswith("*") for line in lines[1:3]] == [True, False]
    assert "TPR at 1 % FPR" in lines[0]
    assert "membership.lira.tpr_at_1_percent" in end.rows[0].figures
    assert "charged to every owner for all 2 trainings of this sweep, at most: epsilon 4, delta 0.0002." in lines
    assert "every epsilon: zero-out, for one row, against 1 of 3 owners together." in lines
    described = json.loads(json.dumps(describe_sweep(plan, end, kept_in="here")))
    assert [row["pareto_optimal"] for row in described["rows"]] == [True, False]
    assert described["rows"][0]["utility"][0] == 0.75
    assert described["measures"] == {"utility": "accuracy", "gap": None, "attack": "membership.lira.tpr_at_1_percent"}


def test_front_has_what_no_other_beats_and_missing_figures_are_the_worst() -> None:
    def one(epsilon: str, utility: float | None, attack: float | None = None, gap: float | None = None) -> Candidate:
        each = [None if value is None else figure(value) for value in (utility, attack, gap)]
        return Candidate(Decimal(epsilon), *each)

    assert front([one("1", 0.8), one("3", 0.9), one("4", 0.85)]) == (True, True, False)
    assert front([one("1", 0.8), one("1", 0.8)]) == (True, True)
    assert front([one("1", 0.8, 0.02, 0.1), one("3", 0.8, 0.02, 0.05)]) == (True, True)
    assert front([one("3", 0.8, 0.01), one("3", 0.8, 0.02), one("3", 0.8)]) == (True, False, False)
    assert front([one("1", None), one("3", 0.5), one("3", None)]) == (True, True, False)
    assert front([]) == ()


def test_groups_and_norm_bounds_are_in_requests_and_names(tmp_path: Path) -> None:
    asked = replace(TERMS, epsilons=("0.50", "3"), norm_bounds=("1", "2.5"), group_by="age", group_edges=("40",), gap="fnr")
    request = a_request(tmp_path, asked)
    assert list(request.trainings) == [
        "diagnosis-e0-5-b1", "diagnosis-e0-5-b2-5", "diagnosis-e3-b1", "diagnosis-e3-b2-5",
    ]  # fmt: skip
    bounds = [(training.training.privacy.epsilon, training.training.privacy.norm_bound)
              for training in request.trainings.values() if training.training.privacy is not None]  # fmt: skip
    assert bounds == [("0.5", "1"), ("0.5", "2.5"), ("3", "1"), ("3", "2.5")]
    assert request.gap == "group.fnr_gap"
    assert request.evaluation.outputs is not None
    assert [getattr(output, "group_by", output) for output in request.evaluation.outputs] == ["correct_count", "age"]
    by_noise = a_request(tmp_path, replace(TERMS, epsilons=(), noise_multipliers=("2",)))
    privacy = by_noise.trainings["diagnosis-n2"].training.privacy
    assert privacy is not None
    assert (privacy.noise_multiplier, privacy.epsilon) == ("2", None)


def test_sweep_with_noise_asks_for_what_takes_it_and_says_what_evaluations_charge(tmp_path: Path) -> None:
    terms = replace(
        TERMS, measure="roc_auc", group_by="age", group_edges=("40",), noise="10", noise_colluders=1, rows_per_person=2
    )
    asked = a_request(tmp_path, terms).evaluation
    assert asked.outputs is not None
    assert [getattr(output, "group_by", output) for output in asked.outputs] == ["score_histogram", "age"]
    assert (asked.noise, asked.noise_colluders, asked.rows_per_person) == ("10", 1, 2)
    assert a_request(tmp_path, terms).utility == "roc_auc"  # which follows from the histogram
    plain = a_request(tmp_path, replace(terms, noise="0", noise_colluders=None, rows_per_person=1)).evaluation.outputs
    assert plain is not None
    assert plain[0] == "roc_auc"

    class Noisy(Parties):
        def draft(self, training: Job, request: EvaluateRequest | AssessRequest) -> Job:
            job = super().draft(training, request)
            if isinstance(request, AssessRequest):
                return job
            outputs = tuple(replace(output, noise="10", noise_colluders=1) for output in job.outputs)
            return replace(job, outputs=outputs)

    parties = Noisy({"diagnosis-e1": 150, "diagnosis-e3": 180})
    counted = replace(TERMS, noise="10", noise_colluders=1)
    plan = plan_sweep(a_request(tmp_path, counted), parties, [])
    assert all(charge.outputs.epsilon is not None for charge in plan.charges)
    held_out = next(charge for charge in plan.charges if charge.account == "dataset/holdout")
    spent = spent_together(parties.draft(a_training(), a_request(tmp_path, counted).evaluation))
    assert spent is not None
    assert (held_out.outputs.queries, held_out.outputs.epsilon) == (2, 2 * spent.epsilon)
    assert "without noise" not in charges_in_words(plan)
    end = run(plan, parties, a_file(tmp_path))
    assert "noise of deviation 10 at least" in sweep_in_words(plan, end)
    attacked = plan_sweep(a_request(tmp_path, replace(counted, attack="lira")), Noisy({}), [])
    assert "\nAssessments open numbers without noise" in charges_in_words(attacked)


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilons": ()},
        {"noise_multipliers": ("2",)},
        {"epsilons": ("1", "1.0")},
        {"epsilons": ("0",)},
        {"epsilons": ("much",)},
        {"epsilons": tuple(str(number) for number in range(1, 66))},
        {"norm_bounds": ("1", "1")},
        {"holdout": ()},
        {"holdout": ("holdout",)},
        {"holdout": ("hospital-a/patients",)},
        {"group_by": "age", "group_edges": ("old",)},
        {"noise": "much"},
        {"noise": "0.0"},
    ],
)
def test_sweep_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfideError) as refused:
        a_request(tmp_path, replace(TERMS, **changes))
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("text", [REQUEST[: REQUEST.index("  privacy")], REQUEST.replace("type: train", "type: evaluate")])
def test_request_without_terms_of_privacy_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfideError):
        a_training_request(tmp_path, text.replace("epochs: 10", "epochs: 10\n  batch_size: 5"))


def test_file_of_a_sweep_is_another_if_anything_but_its_settings_changes(tmp_path: Path) -> None:
    def path(asked: SweepTerms, text: str = REQUEST) -> Path:
        training = a_training_request(tmp_path, text)
        return sweep_file(tmp_path, training, sweep_request(training, asked), folder=tmp_path).path

    first = path(TERMS)
    assert path(replace(TERMS, epsilons=("5",))) == path(TERMS, REQUEST.replace('epsilon: "7"', 'epsilon: "8"')) == first
    others = {path(replace(TERMS, holdout=TERMS.holdout[:1])), path(TERMS, REQUEST.replace("epochs: 10", "epochs: 11"))}
    assert first not in others
    assert len(others) == 2


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"format":"confide.sweep/1","rows":[{}],"sweep":"' + b"ab" * 32 + b'"}'])
def test_file_that_is_not_of_this_sweep_is_refused(tmp_path: Path, damage: bytes) -> None:
    file = a_file(tmp_path)
    file.write([])
    file.path.write_bytes(damage)
    with pytest.raises(ConfideError) as refused:
        file.read()
    assert refused.value.code is ErrorCode.STATE_DAMAGED
    file.write([])
    with pytest.raises(ConfideError):
        replace(file, digest="cd" * 32).read()
