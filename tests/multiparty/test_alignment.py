"""Two hospitals find their common patients in private, by their operators' commands, and train on the columns of both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from governance.audit.entries import EntryKind, read_entry
from parties import harness
from parties.client.prepare import prepare_job
from parties.client.requests import TrainingRequest, TrainRequest
from parties.linking.pseudonyms import pseudonyms_for
from parties.registration import open_rows
from parties.storage.database import one_transaction
from parties.storage.datasets import DatasetRecord
from protocols.errors import ConfideError, ErrorCode
from protocols.model import reference
from protocols.mpc.primitives.sigmoid import MAX_ERROR
from protocols.mpc.row_order import row_order
from tests.support.command import Said, confide, confide_alone
from tests.support.shares import open_model
from tests.support.tables import EXAMPLES
from tests.support.trial import COMPUTING, DEALER, LEAD, MODEL, ZEROS, Split, Trial, scaled

pytestmark = pytest.mark.multiparty

FIRST, OTHER = LEAD, DEALER
SCHEMAS = {FIRST: EXAMPLES / "breast_cancer_columns_a_schema.yaml", OTHER: EXAMPLES / "breast_cancer_columns_b_schema.yaml"}
TRAINING = TrainingRequest(epochs=3, batch_size=64, learning_rate="0.5", momentum="0.9")


@dataclass(frozen=True)
class Aligned:
    """What both operators' commands said, and what is registered."""

    said: dict[str, Said]
    records: dict[str, DatasetRecord]
    patients: pd.DataFrame
    common: set[int]


def files(trial: Trial, patients: pd.DataFrame) -> dict[str, Path]:
    """Each hospital's own patients, columns, order and spelling of the identifiers; neither has all of the other's."""
    mine = {FIRST: patients.iloc[: len(patients) * 3 // 4], OTHER: patients.iloc[len(patients) // 4 :]}
    found = {}
    for party, frame in mine.items():
        shuffled = frame.sample(frac=1.0, random_state=3 if party == FIRST else 4)
        columns = [c for c in frame.columns if (c.startswith("mean_") or c == "benign") == (party == FIRST)]
        spelt = [f"Patient  {i}" if party == FIRST else f"PATIENT {i}" for i in shuffled.index]
        found[party] = trial.folder / f"{party}-cohort.csv"
        shuffled[columns].assign(patient_id=spelt).to_csv(found[party], index=False)
    return found


def align(trial: Trial, paths: dict[str, Path], label: str, *options: str) -> dict[str, Said]:
    """Both operators run their command at the same time."""

    def run(party: str) -> Said:
        config, peer = trial.network.party(party).config_file, OTHER if party == FIRST else FIRST
        return confide_alone(
            "dataset", "align", "--config", config, "--with", peer, "--label", label, "--file", paths[party],
            "--schema", SCHEMAS[party], "--wait", "60", "--format", "json", *options,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((FIRST, OTHER), pool.map(run, (FIRST, OTHER)), strict=True))


def latest(trial: Trial, party: str, name: str) -> DatasetRecord:
    with one_transaction(trial.network.party(party).config.folder.database_file) as tables:
        return tables.datasets.get(name)


@pytest.fixture(scope="module")
def aligned(trial: Trial, split: Split) -> Aligned:
    patients = pd.concat(split.train.values())
    said = align(trial, files(trial, patients), "cohort-2026", "--name", "aligned")
    assert [each.exit_code for each in said.values()] == [0, 0], said
    records = {party: latest(trial, party, "aligned") for party in (FIRST, OTHER)}
    for party, record in records.items():
        harness.permit(trial.network.party(party).config, record)
    common = set(patients.index[len(patients) // 4 : len(patients) * 3 // 4])
    return Aligned(said, records, patients, common)


def order_of(trial: Trial, aligned: Aligned, party: str) -> list[int]:
    """Whose the registered rows are, found by their values: no two patients have the same."""
    features, _ = scaled(aligned.patients)
    columns = aligned.patients.columns.drop("benign")
    mine = [i for i, name in enumerate(columns) if name.startswith("mean_") == (party == FIRST)]
    whose = {row.tobytes(): patient for row, patient in zip(features[:, mine], aligned.patients.index, strict=True)}
    assert len(whose) == len(aligned.patients)
    config = trial.network.party(party).config
    return [whose[row.tobytes()] for row in open_rows(config.folder.open_sealed(), aligned.records[party]).features]


def test_both_have_exactly_the_common_patients_in_one_order(trial: Trial, aligned: Aligned) -> None:
    first, other = (order_of(trial, aligned, party) for party in (FIRST, OTHER))
    assert first == other
    assert set(first) == aligned.common
    assert len(first) == len(aligned.common)
    data = {party: said.data for party, said in aligned.said.items()}
    assert data[FIRST]["alignment"] == data[OTHER]["alignment"] == aligned.records[FIRST].alignment
    assert data[FIRST]["found"] == len(aligned.common)
    assert "This run discloses" in aligned.said[OTHER].error


def test_vertical_job_trains_on_the_aligned_parts(trial: Trial, aligned: Aligned) -> None:
    fields = {"type": "train", "model_name": "aligned", "manifest": "model.json", "weights": "model.safetensors"}
    common = {"api_version": "confide/v1", "computing_parties": COMPUTING, "dealer": DEALER, "partition": "columns"}
    datasets = [f"{FIRST}/aligned", f"{OTHER}/aligned"]
    request = TrainRequest.model_validate(common | fields | {"datasets": datasets, "training": TRAINING})
    done = trial.plan_and_complete(prepare_job(trial.client, request, folder=trial.folder, now=datetime.now(UTC)))
    job, training = done.job, done.job.training
    assert training is not None
    rows = aligned.patients.loc[order_of(trial, aligned, FIRST)]
    features, labels = scaled(rows)
    order = row_order(training.shuffle_seed, len(labels))
    pooled = reference.train(MODEL, ZEROS, features, labels, training=training, order=order)
    joint = open_model(trial, job)
    # As in test_columns.py: features off by 2^-17, and so many steps with momentum 0.9 and rate 0.5.
    gradient = 2.0**-17 * np.abs(pooled["linear.weight"]).sum() / 4 + MAX_ERROR + 2 * 2.0**-16
    steps = 3 * -(-len(labels) // 64)
    assert max(np.abs(joint[name] - pooled[name]).max() for name in pooled) < 0.5 * 10 * steps * gradient
    assert max(np.abs(pooled[name]).max() for name in pooled) > 0.2


def test_sizes_alone_are_told_and_nothing_is_registered(trial: Trial, aligned: Aligned) -> None:
    paths = {party: trial.folder / f"{party}-cohort.csv" for party in (FIRST, OTHER)}
    before = {party: len(trial.client.datasets(party)) for party in (FIRST, OTHER)}
    said = align(trial, paths, "feasibility", "--size-only")
    assert [each.exit_code for each in said.values()] == [0, 0], said
    assert {each.data["found"] for each in said.values()} == {len(aligned.common)}
    assert before == {party: len(trial.client.datasets(party)) for party in (FIRST, OTHER)}


def test_plan_is_shown_before_anything_and_no_third_institution_fits(trial: Trial, aligned: Aligned) -> None:
    config = trial.network.party(FIRST).config_file
    arguments = ["dataset", "align", "--config", config, "--label", "x", "--file", trial.folder / f"{FIRST}-cohort.csv"]
    arguments += ["--schema", SCHEMAS[FIRST], "--name", "x", "--population", "aligned", "--format", "json"]
    said = confide(*arguments, "--with", OTHER, "--plan")
    assert said.data["discloses"]["both_learn"][-1] == "of each own row, whether the other side has the person too"
    assert confide(*arguments, "--with", FIRST).failure["code"] == "INVALID_ARGUMENT"
    assert confide(*arguments, "--with", "nobody").failure["code"] == "NOT_ENROLLED"


def test_identifiers_are_in_no_log_and_no_database(trial: Trial, aligned: Aligned) -> None:
    for party in (FIRST, OTHER):
        folder = trial.network.party(party).config_file.parent
        kept = b"".join(path.read_bytes() for path in [*folder.glob("*.log"), *folder.glob("state/confide.db*")])
        assert b"patient  1" not in kept.lower()
        assert b"patient 1" not in kept.lower()
        assert [said.error.lower().count("patient 1") for said in aligned.said.values()] == [0, 0]


def test_same_people_get_the_same_pseudonyms_at_both_hospitals(trial: Trial) -> None:
    for party, peer in ((FIRST, OTHER), (OTHER, FIRST)):
        opened = confide(
            "dataset", "project", "open", "--config", trial.network.party(party).config_file, "--name", "heart",
            "--with", peer, "--evaluations", "200", "--format", "json",
        )  # fmt: skip
        assert opened.data["members"] == sorted([FIRST, OTHER])
    configs = {party: trial.network.party(party).config for party in (FIRST, OTHER)}
    first = pseudonyms_for(configs[FIRST], "heart", [f"Patient  {n}" for n in range(60)])
    other = pseudonyms_for(configs[OTHER], "heart", [f"patient {n}" for n in range(40, 100)])
    assert [first[f"Patient  {n}"] for n in range(40, 60)] == [other[f"patient {n}"] for n in range(40, 60)]
    assert len(set(first.values()) | set(other.values())) == 100
    with pytest.raises(ConfideError) as caught:
        pseudonyms_for(configs[FIRST], "heart", [f"p{n}" for n in range(150)])
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED
    with one_transaction(configs[OTHER].folder.database_file) as tables:
        entries = [read_entry(entry.body) for entry in tables.audit.entries(0, tables.audit.size())]
    counted = [dict(entry.facts) for entry in entries if entry.kind is EntryKind.PSEUDONYMS_EVALUATED]
    assert counted == [{"project": "heart", "rotation": 1, "peer": FIRST, "count": 61, "left": 139, "allowed": 200}]
