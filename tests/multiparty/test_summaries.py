"""Joint summaries between real processes: by label through the client, clusters through the command, small groups withheld."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from math import sqrt

import numpy as np
import pytest
import yaml

from governance.budget.ledger import Step
from parties.client import Client, Placement
from privacy.accounting.noisy_answers import spent_together
from privacy.preparation.schema_file import schema_from_yaml
from protocols.errors import ConfideError
from protocols.mpc.programs.noisy_clusters import first_means
from protocols.mpc.row_order import row_order
from tests.support.command import confide
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, SHORT_TRAINING, Split, Trial, changed, scaled

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
        assert spent == dict.fromkeys((Step.RESERVE, Step.COMMIT), ("dataset/train", 1, 62))


def test_moments_are_those_of_everybody_s_rows_and_a_training_names_them(trial: Trial, split: Split) -> None:
    now, where, noise = datetime.now(UTC), Placement(tuple(COMPUTING), DEALER), 5.0
    with Client.open(trial.network.researcher_config, now=now, placement=where) as client:
        job = client.summarise(datasets=DATASETS, groups="all", noise=noise)
        assert any("only if all owners of its rows bring rows here" in warning for warning in job.warnings)
        job.wait()
        job.result()
        assert (client.folder / "released" / f"{job.job.job_id}.json").exists()  # however it was opened
    file, config = trial.folder / "standardised.yaml", ["--config", trial.network.researcher_config, "--format", "json"]
    found = np.array(confide("job", "result", job.job.job_id, "--schema", file, *config).data["outputs"]["moments"])
    features, _ = pooled(split)
    # Three owners draw, so that the noise of two of them has the deviation: eight deviations of all, over the rows.
    error = 8 * noise * sqrt(3 / 2) / len(features)
    assert 0 < np.abs(found[:, 0] - features.mean(axis=0)).max() < error
    # The variance is off by the error of the mean of squares and twice that of the mean, whose absolute value is at most 1.
    assert np.abs(found[:, 1] ** 2 - features.var(axis=0)).max() < 3 * error
    spent = spent_together(job.job)
    assert spent is not None
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            (entry,) = [entry for entry in tables.ledger.of_job(job.job.job_id) if entry.step is Step.COMMIT]
        assert (entry.amount.epsilon, entry.amount.answers) == (spent.epsilon.normalize(), 60)
    schema = schema_from_yaml(file.read_bytes())
    for party in HOSPITALS:
        frame = split.train[party].copy()
        for column in schema.features:
            frame[column.name] = frame[column.name].clip(*column.bounds)
        trial.register(party, "standardised", frame, schema_file=file, population="train")
    prepared = trial.train(SHORT_TRAINING, model_name="standardised", datasets="standardised")
    (named,) = prepared.job.prepared_with
    assert (named.job, named.epsilon) == (job.job.job_id, f"{spent.epsilon.normalize():f}")
    assert [opening.party for opening in named.openings] == COMPUTING
    # An owner knows which job the schema claims, what that job spent, and what its shares were.
    less = replace(named, epsilon="0.1")
    forged = replace(named, openings=(named.openings[0], replace(named.openings[1], share=named.openings[0].share)))
    for false, where in (((), "prepared_with"), ((less,), f".{named.job[:12]}"), ((forged,), f".{named.job[:12]}.openings")):
        with pytest.raises(ConfideError) as caught:
            trial.client.submit(changed(prepared, prepared_with=false))
        assert {problem.where.endswith(where) for problem in caught.value.problems} == {True}
    completed = trial.complete(prepared)
    assert completed.job.produced_model is not None
    holder = ["--config", trial.network.party(COMPUTING[0]).config_file]
    told = confide("model", "lineage", completed.job.produced_model.label, *holder).out
    assert f"prepared with summarise job {named.job[:12]}: epsilon {named.epsilon}" in told


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


def test_clusters_with_noise_are_those_of_everybody_s_rows_within_it(trial: Trial, split: Split) -> None:
    now, where = datetime.now(UTC), Placement(tuple(COMPUTING), DEALER)
    noise = 2.5  # half the minimum cell, the least that owners take
    with Client.open(trial.network.researcher_config, now=now, placement=where) as client:
        job = client.summarise(datasets=DATASETS, groups="clusters", clusters=2, iterations=1, noise=noise)
        found = job.result()["centroids"]
    assert job.job.summary is not None
    features, _ = pooled(split)
    means = first_means(job.job.summary.start_seed, 2, features.shape[1]) / 2.0**16
    distances = ((features[:, None] - means[None]) ** 2).sum(axis=2)
    nearest, sizes = distances.argmin(axis=1), np.bincount(distances.argmin(axis=1), minlength=2)
    first, second = np.sort(distances, axis=1).T
    undecided = int((second - first < 4 * features.shape[1] * MEAN_ERROR).sum())  # rows are encoded to less than that
    error = 8 * noise * sqrt(3 / 2)  # eight deviations of the noise of three owners, two of which have the deviation
    for group, size in enumerate(sizes):
        if size >= 5 + error + undecided:
            assert abs(found[group, -1] - size) <= error + undecided
            off = 2 * (error + undecided) / (size - error - undecided) + MEAN_ERROR  # of a sum, and of the size below it
            np.testing.assert_allclose(found[group, :-1], features[nearest == group].mean(axis=0), atol=off, rtol=0)
