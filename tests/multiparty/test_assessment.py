"""A membership attack between real processes, on a model that was trained to know its rows by heart."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from governance.budget.ledger import Step
from governance.documents import SignedDocument
from governance.risk_report import read_risk_report
from parties import harness
from parties.client import Client, Placement
from parties.client.risk import risk_of, usual_thresholds
from privacy.figures import figures_document
from protocols.canonical import canonical_bytes, parse_canonical
from tests.support.by_heart import BY_HEART, MEMBERS, MIN_CELL, OTHERS, with_random_labels
from tests.support.command import confide
from tests.support.trial import COMPUTING, DEALER, LEAD, Split, Trial

pytestmark = pytest.mark.multiparty
AUC = "membership.lira.auc"
DATASETS = [f"{LEAD}/guessed", f"{LEAD}/others"]


def state(trial: Trial, report: Path, out: Path, *, code: int = 0) -> dict[str, Any]:
    """Has the owner of the rows sign a report; returns the error of a command that fails."""
    party = trial.network.party(LEAD)
    options = ["--config", party.config_file, "--person", harness.person_folder(party.config, "steward"), "--out", out]
    said = confide("model", "evidence", "state", report, *options, "--format", "json")
    assert said.exit_code == code, said
    return said.failure if code else said.data


def test_model_that_knows_its_rows_by_heart_is_attacked_in_shares(trial: Trial, split: Split) -> None:
    rows = split.train[LEAD]
    trial.register(LEAD, "guessed", with_random_labels(rows[:MEMBERS], 0))
    trial.register(LEAD, "others", with_random_labels(rows[MEMBERS : MEMBERS + OTHERS], 1))
    prepared = trial.complete(trial.train_on(DATASETS[:1], BY_HEART, model_name="by-heart"))
    model = prepared.job.produced_model
    assert model is not None
    now, where = datetime.now(UTC), Placement(tuple(COMPUTING), DEALER)
    with Client.open(trial.network.researcher_config, now=now, placement=where) as client:
        job = client.assess(model.label, datasets=DATASETS, members=DATASETS[:1], attack="rmia", shadows=32, min_cell=MIN_CELL)
        counts = job.result()["attack-counts"]
    thresholds = usual_thresholds("rmia")
    assert counts.shape == (len(thresholds), 2)
    for side, rows in enumerate((MEMBERS, OTHERS)):
        told = counts[counts[:, side] >= 0, side]
        assert len(told) > 0
        assert (-np.diff([rows, *told, 0]) >= MIN_CELL).all()
    report = risk_of(job.job, counts)
    assert (report.members, report.others) == (MEMBERS, OTHERS)
    # Guessing has 0.5. Shadows are drawn anew in each run: the lowest value seen was 0.58, of an interval from 0.48 to 0.67.
    assert report.figures["membership.rmia.auc"].high > 0.55
    # Two counts a threshold: each owner is charged for all of them, and so is the model at whoever holds a share of it.
    with trial.tables(LEAD) as tables:
        entries = tables.ledger.of_job(job.job.job_id)
    spent = {(entry.step, entry.account, entry.amount.queries, entry.amount.answers) for entry in entries}
    accounts = ["dataset/guessed", "dataset/others", f"model/{model.label}", f"consumer/{job.job.querier}/{model.label}"]
    assert spent == {(step, account, 1, 2 * len(thresholds)) for step in (Step.RESERVE, Step.COMMIT) for account in accounts}


def test_command_tells_counts_and_figures_of_the_other_attack(trial: Trial, split: Split) -> None:
    model = next(entry.label for entry in trial.client.all_models() if entry.label.startswith("by-heart@"))
    request = trial.folder / "assess.yaml"
    who = {"computing_parties": COMPUTING, "dealer": DEALER, "datasets": DATASETS, "members": DATASETS[:1]}
    what = {"model": model, "attack": "lira", "shadows": 16, "thresholds": ["-2", "-1", "0"], "min_cell": MIN_CELL}
    request.write_text(yaml.safe_dump({"api_version": "confide/v1", "type": "assess", **who, **what}))
    config = ["--config", trial.network.researcher_config]
    job_id = confide("job", "submit", request, *config, "--format", "json").data["job"]
    confide("job", "wait", job_id, *config, "--format", "json")
    report = trial.folder / "report.json"
    told = confide("job", "result", job_id, *config, "--report", report, "--format", "json").data["outputs"]["attack-counts"]
    assert np.array(told, dtype=object).shape == (3, 2)
    # The owner's party opens the counts again, and signs what they say and nothing else.
    out = trial.folder / "signed.json"
    found = parse_canonical(report.read_bytes())
    figure = found["report"]["figures"][AUC]
    edited = trial.folder / "edited.json"
    harmless = found["report"] | {"figures": found["report"]["figures"] | {AUC: ["0.000000", "0.000000", figure[2]]}}
    edited.write_bytes(canonical_bytes(found | {"report": harmless}))
    refused = state(trial, edited, out, code=2)
    assert (refused["code"], [each["where"] for each in refused["problems"]]) == ("INVALID_DOCUMENT", [f"figures.{AUC}"])
    assert not out.exists()
    state(trial, report, out)
    stated = read_risk_report(SignedDocument.from_bytes(out.read_bytes()).document)
    counts = np.array([[-1 if count is None else count for count in line] for line in told])
    expected = risk_of(trial.client.job(job_id), counts)
    assert figures_document(stated.figures) == figures_document(expected.figures) == found["report"]["figures"]
    for opening in found["openings"].values():
        assert opening["share"] not in out.read_text()
