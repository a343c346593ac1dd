"""Joint summaries between real processes: by label through the client, clusters through the command, small groups withheld."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import yaml

from governance.budget.ledger import Step
from parties.client import Client, Placement
from protocols.mpc.row_order import row_order
from tests.support.command import confide
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, Split, Trial, scaled

pytestmark = pytest.mark.multiparty
DATASETS = [f"{party}/train" for party in HOSPITALS]
# Rows are encoded to half a unit of 2^-16; a mean of rows is cut to a unit, and its inverse is within 2^-20 of itself.
MEAN_ERROR = 1.5 * 2.0**-16 + 2.0**-20


def pooled(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """All rows in the order of the job."""
    features, labels = zip(*(scaled(split.train[party]) for party in HOSPITALS), strict=True)
    return np.vstack(features), np.concatenate(labels)


def test_groups_by_label_are_those_of_everybody_s_rows(trial: Trial, split: Split) -> None:
    now, where = datetime.now(UTC), Placement(tuple(COMPUTING), DEALER)
    with Client.open(trial.network.researcher_config, now=now, placement=where) as client:
        job = client.summarise(datasets=DATASETS, groups="labels")
        found = job.result()["group-means"]
    features, labels = pooled(split)
    assert found[:, -1].tolist() == [(labels == group).sum() for group in (0, 1)]
    for group in (0, 1):
        np.testing.assert_allclose(found[group, :-1], features[labels == group].mean(axis=0), atol=MEAN_ERROR, rtol=0)
    # Two groups of 30 means and a size: each owner is charged for all of them.
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            entries = tables.ledger.of_job(job.job.job_id)
        spent = {entry.step: (entry.account, entry.amount.queries, entry.amount.answers) for entry in entries}
        assert spent == dict.fromkeys((Step.RESERVE, Step.COMMIT), ("dataset/train/1", 1, 62))


def test_clusters_are_those_of_everybody_s_rows_and_the_command_tells_them(trial: Trial, split: Split) -> None:
    request = trial.folder / "clusters.yaml"
    who = {"computing_parties": COMPUTING, "dealer": DEALER, "datasets": DATASETS}
    what = {"groups": "clusters", "clusters": 3, "iterations": 3, "min_cell": 5}
    request.write_text(yaml.safe_dump({"api_version": "confide/v1", "type": "summarise", **who, **what}))
    config = ["--config", trial.network.researcher_config]
    job_id = confide("job", "submit", request, *config, "--format", "json").data["job"]
    confide("job", "wait", job_id, *config, "--format", "json")
    told = confide("job", "result", job_id, *config, "--format", "json").data["outputs"]["centroids"]
    job = trial.client.job(job_id)
    assert job.summary is not None
    features, _ = pooled(split)
    means = features[row_order(job.summary.start_seed, len(features))[:3]]
    for _ in range(3):
        distances = ((features[:, None] - means[None]) ** 2).sum(axis=2)
        nearest = distances.argmin(axis=1)
        means = np.array([features[nearest == group].mean(axis=0) for group in range(3)])
    first, second = np.sort(distances, axis=1)[:, :2].T
    # Distances are of 30 columns, and means are off by so much in each: rows nearer than that to the middle may go elsewhere.
    undecided = int((second - first < 4 * 30 * 2 * MEAN_ERROR).sum())
    for group, size in enumerate(np.bincount(nearest, minlength=3)):
        assert told[group][-1] is None or abs(told[group][-1] - size) <= 3 * undecided
        if undecided == 0 and told[group][-1] is not None:
            np.testing.assert_allclose(told[group][:-1], means[group], atol=MEAN_ERROR, rtol=0)
