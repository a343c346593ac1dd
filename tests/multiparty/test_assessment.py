"""A membership attack between real processes, on a model that was trained to know its rows by heart."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import yaml

from governance.budget.ledger import Step
from parties.client import Client, Placement
from parties.client.requests import TrainingRequest
from parties.client.risk import risk_of, usual_thresholds
from parties.client.training_request import CheckpointsRequest
from tests.support.command import confide
from tests.support.trial import COMPUTING, DEALER, LEAD, Split, Trial

pytestmark = pytest.mark.multiparty
MEMBERS, OTHERS, MIN_CELL = 40, 96, 5
DATASETS = [f"{LEAD}/guessed", f"{LEAD}/others"]
# Labels drawn at random have no rule but the rows themselves: 31 parameters learn most of 40 of them by heart.
BY_HEART = TrainingRequest(
    epochs=900, batch_size=40, learning_rate="0.5", momentum="0.9", checkpoints=CheckpointsRequest(every_epochs=0)
)


def with_random_labels(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    return frame.assign(benign=np.random.default_rng(seed).integers(0, 2, len(frame)))


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
    # Two counts a threshold: each owner is charged for all of them.
    with trial.tables(LEAD) as tables:
        entries = tables.ledger.of_job(job.job.job_id)
    spent = {(entry.step, entry.account, entry.amount.queries, entry.amount.answers) for entry in entries}
    accounts = [f"dataset/{name}/1" for name in ("guessed", "others")]
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
    told = confide("job", "result", job_id, *config, "--format", "json").data["outputs"]["attack-counts"]
    assert np.array(told, dtype=object).shape == (3, 2)
