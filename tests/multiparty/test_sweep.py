"""A sweep over two epsilons at real parties: ordinary jobs, charged to every owner, and a front of what came of them."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import yaml

from governance.budget.ledger import Step
from parties import harness
from tests.support.command import Said, confide
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, Split, Trial

pytestmark = pytest.mark.multiparty
EPSILONS = ("2", "20")
# Of the pairs of a malignant and a benign tumour. A model without noise ranks 0.99 of them right, a useless one a half.
LEAST_AREA = 0.85


def charged(trial: Trial, party: str, jobs: list[str]) -> tuple[Decimal, Decimal]:
    """What these jobs were charged to the data set that a party trains on, by its ledger."""
    with trial.tables(party) as tables:
        entries = [entry for job in jobs for entry in tables.ledger.of_job(job)]
    spent = [entry.amount for entry in entries if entry.step is Step.COMMIT and entry.account == "dataset/train"]
    assert len(spent) == len(jobs)
    return sum(((amount.epsilon or Decimal(0)) for amount in spent), Decimal(0)), sum((a.delta for a in spent), Decimal(0))


def sweep(trial: Trial, *options: str, rows: str = "train") -> Said:
    request = trial.folder / "sweep.yaml"
    privacy = {"mechanism": "shared_gradients", "colluders": 1, "nominal_rows": 420, "norm_bound": "1", "delta": "0.0001"}
    training = {"epochs": 30, "learning_rate": "8", "privacy": {**privacy, "epsilon": "1"}}
    who = {"computing_parties": COMPUTING, "dealer": DEALER, "datasets": [f"{party}/{rows}" for party in HOSPITALS]}
    what = {"model_name": "swept", "manifest": "model.json", "weights": "model.safetensors", "training": training}
    request.write_text(yaml.safe_dump({"api_version": "confide/v1", "type": "train", **who, **what}))
    holdout = [word for party in HOSPITALS for word in ("--holdout", f"{party}/holdout")]
    epsilons = [word for epsilon in EPSILONS for word in ("--epsilon", epsilon)]
    config = trial.network.researcher_config
    return confide("privacy", "sweep", request, *holdout, *epsilons, *options, "--config", config, "--format", "json")


def test_sweep_trains_evaluates_and_attacks_each_model_and_is_charged_for_all(trial: Trial) -> None:
    options = ("--group-by", "mean_radius", "--group-edge", "14", "--assess", "rmia", "--shadows", "16")
    jobs = len(trial.client.jobs())
    unconfirmed = sweep(trial, *options)
    assert "Charge this to the owners?" in unconfirmed.error
    assert (unconfirmed.exit_code, len(trial.client.jobs())) == (1, jobs)
    told = sweep(trial, *options, "--yes").data
    first, second = told["rows"]
    assert [row["done"] for row in told["rows"]] == [["train", "evaluate", "assess"]] * 2
    assert second["utility"][0] > LEAST_AREA
    assert all(0 <= row["attack"][0] <= 1 for row in told["rows"])
    assert first["pareto_optimal"]  # nothing has a smaller epsilon
    ahead = second["utility"][0] > first["utility"][0] or second["attack"][0] < first["attack"][0]
    assert second["pareto_optimal"] or not ahead
    trainings = [row["jobs"]["train"] for row in told["rows"]]
    for party in HOSPITALS:
        assert charged(trial, party, trainings) == (Decimal(22), Decimal("0.0002"))
        planned = next(c for c in told["planned_charges"] if (c["party"], c["account"]) == (party, "dataset/train"))
        assert (planned["trainings"]["epsilon"], planned["trainings"]["delta"]) == ("22", "0.0002")
    assert told["charged_at_most"] == {"epsilon": "22", "delta": "0.0002", "trainings": 2}
    # The same again has nothing left to do: the front is read from what was kept.
    jobs = len(trial.client.jobs())
    again = sweep(trial, *options).data
    assert (again["rows"], again["planned_charges"]) == (told["rows"], [])
    assert len(trial.client.jobs()) == jobs
    assert again["kept_in"].startswith(str(trial.folder / harness.RESEARCHER))


def test_sweep_that_a_budget_does_not_cover_stops_with_what_was_made(trial: Trial, split: Split) -> None:
    for party in HOSPITALS:
        trial.register(party, "capped", split.train[party].iloc[1:])  # others than those of "train", which has a budget
    owner = trial.network.party(DEALER)
    caps = ("--queries", "100", "--answers", "100", "--epsilon", "5", "--delta", "0.01")
    officer = ("--person", harness.person_folder(owner.config, "officer"))
    assert confide("budget", "set", "dataset/capped", "--config", owner.config_file, *officer, *caps).exit_code == 0
    said = sweep(trial, "--yes", "--measure", "correct_count", "--noise", "5", rows="capped")
    envelope = json.loads(said.out)
    assert said.exit_code != 0
    assert envelope["error"]["what"].startswith("the sweep stopped: ")
    assert [row["done"] for row in envelope["data"]["rows"]] == [["train", "evaluate"], []]
    assert envelope["data"]["rows"][0]["utility"] is not None
    assert not envelope["data"]["is_complete"]
