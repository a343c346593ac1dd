"""An evaluation whose counts have noise of their rows' owners, between real processes: near the rows' own, tested, charged."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from governance.audit.entries import EntryKind, read_entry
from governance.budget.ledger import Step
from parties.client import Client, Placement
from parties.client.output_request import USUAL_EDGES
from privacy.accounting.noisy_answers import spent_together
from protocols.model import reference
from tests.support.shares import open_model
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, MODEL, Completed, Split, Trial, scaled

pytestmark = pytest.mark.multiparty
DATASETS = [f"{party}/holdout" for party in HOSPITALS]
NOISE = 3.0
BOUND = 3.0


def test_noisy_counts_are_near_those_of_everybody_s_rows_and_are_charged(trial: Trial, trained: Completed, split: Split) -> None:
    now, where = datetime.now(UTC), Placement(tuple(COMPUTING), DEALER)
    with Client.open(trial.network.researcher_config, now=now, placement=where) as client:
        outputs = ["correct_count", "confusion", "score_histogram", {"kind": "log_loss", "bound": str(BOUND)}]
        job = client.evaluate(trained.model, datasets=DATASETS, outputs=outputs, noise=str(NOISE))
        noisy = job.result()
    features, labels = scaled(pd.concat(split.holdout[party] for party in HOSPITALS))
    logits = reference.logits(MODEL, open_model(trial, trained.job), features)[:, 0]
    table = confusion_matrix(labels, logits >= 0)
    # What is below the policies' minimum of 5 with its noise is withheld.
    held = np.isnan(noisy["confusion"])
    assert (noisy["confusion"][~held] >= 5).all()
    assert not held[table > 5 + 8 * NOISE * math.sqrt(3 / 2)].any()
    off = np.concatenate([noisy["correct"] - np.trace(table), (noisy["confusion"] - table).reshape(-1)])
    # Three owners draw, each with a deviation of 3 / sqrt(2), so that two of them have 3: eight deviations of all together. Rows
    # whose logit is nearer to 0 than its error may be in another cell.
    unsure = int((np.abs(logits) < 1e-2).sum())
    off = off[~np.isnan(off)]
    assert len(off) >= 3  # the diagonal and its sum are far above
    assert np.abs(off).max() < 8 * NOISE * math.sqrt(3 / 2) + unsure
    assert np.abs(off).min() > 0  # that one is whole by chance has a probability of about 2^-16 each
    losses = np.minimum(np.logaddexp(0, np.where(labels == 1, -logits, logits)), BOUND)
    assert 0 < abs(noisy["log-loss"][0] - losses.mean()) < 8 * NOISE * math.sqrt(3 / 2) * BOUND / len(labels) + 1e-2
    histogram = noisy["score-histogram"]
    edges = [math.log(float(edge) / (1 - float(edge))) for edge in USUAL_EDGES]
    ranges = np.digitize(logits, edges)
    rows = np.stack([np.bincount(ranges[labels == label], minlength=len(edges) + 1) for label in (0, 1)], axis=1)
    near = int((np.abs(logits[:, None] - edges) < 1e-2).sum())
    told = ~np.isnan(histogram)
    assert told.any()
    assert np.abs(histogram - rows)[told].max() < 8 * NOISE * math.sqrt(3 / 2) + near
    assert [output.noise_colluders for output in job.job.outputs] == [1, 1, 1, 1]
    spent = spent_together(job.job)
    assert spent is not None
    for party in HOSPITALS:
        with trial.tables(party) as tables:
            entries = {entry.account: entry for entry in tables.ledger.of_job(job.job.job_id) if entry.step is Step.COMMIT}
            found = [read_entry(logged.body) for logged in tables.audit.naming({job.job.job_id})]
        of_rows = next(entry.amount for account, entry in entries.items() if account.startswith("dataset/"))
        assert (of_rows.epsilon, of_rows.delta) == (spent.epsilon.normalize(), spent.delta)
        # Its holders charge the model too, which no noise on counts of rows hides.
        assert [entry.amount.epsilon for entry in entries.values()].count(None) == (2 if party in COMPUTING else 0)
        assert {(entry.amount.queries, entry.amount.answers) for entry in entries.values()} == {(1, 5 + 28 + 1)}
        (tested,) = [each for each in found if each.kind is EntryKind.NOISE_TESTED]
        assert tested.facts["result"] == "passed"
        figures, by = tested.facts.get("owners", ()), tested.facts.get("said_by", ())  # its own, or by whose word
        assert (len(figures), len(by)) == ((3, 0) if party in COMPUTING else (0, 2))  # type: ignore[arg-type]
