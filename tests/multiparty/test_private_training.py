"""A private training on shares at real parties: rows or columns at three hospitals, then an evaluation of what was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from governance.audit import merkle
from governance.audit.checkpoints import parse_checkpoint, sign_checkpoint
from governance.audit.entries import NO_PREVIOUS, Entry, EntryKind, entry_body, read_entry
from governance.audit.notes import parse_note
from governance.budget.ledger import spent_with_noise
from parties import harness
from parties.alignment_secrets import AlignBy, make_alignment_secret
from parties.auditing import standalone
from parties.auditing.export import export_log
from parties.auditing.standalone import Report, Wrong, verify
from parties.client.asked_outputs import COUNT_OUTPUT
from parties.client.client import PreparedJob
from parties.client.prepare import prepare_job
from parties.client.requests import EvaluateRequest, TrainingRequest, TrainRequest
from parties.registration import register_dataset
from parties.storage.database import one_transaction
from privacy.preparation.contract import OnViolation
from protocols.model import reference
from protocols.private_training import PrivateTraining
from tests.support.audit_logs import bodies_of, rewritten
from tests.support.private_training import terms
from tests.support.shares import open_model
from tests.support.tables import EXAMPLES
from tests.support.trial import COMPUTING, DEALER, HOSPITALS, LEAD, MODEL, Completed, Split, Trial, scaled

pytestmark = pytest.mark.multiparty

NOMINAL = 420
TRAINING = TrainingRequest(epochs=30, batch_size=NOMINAL, learning_rate="8")
TERMS = terms(NOMINAL, noise_multiplier="2", epsilon="20", delta="0.0001")
# Of the rows held out. Over 60 seeds the twin's models are right on 0.889 with deviation 0.012: nearly five of them below.
LEAST_ACCURACY = 0.83
FIRST, OTHER = LEAD, DEALER
SCHEMAS = {FIRST: EXAMPLES / "breast_cancer_columns_a_schema.yaml", OTHER: EXAMPLES / "breast_cancer_columns_b_schema.yaml"}
COMMON = {"api_version": "confide/v1", "computing_parties": COMPUTING, "dealer": DEALER, "partition": "columns"}


def private(prepared: PreparedJob, privacy: PrivateTraining) -> PreparedJob:
    """The prepared training with these terms."""
    training = prepared.job.training
    assert training is not None
    return replace(prepared, job=replace(prepared.job, training=replace(training, privacy=privacy)))


def accuracy(trial: Trial, completed: Completed, frame: pd.DataFrame) -> float:
    features, labels = scaled(frame)
    return reference.accuracy(MODEL, open_model(trial, completed.job), features, labels)


def assert_evaluates(trial: Trial, completed: Completed, evaluation: PreparedJob, frame: pd.DataFrame) -> None:
    """What the parties count is what the model, opened by the test alone, gets right."""
    evaluated = trial.complete(evaluation)
    correct = int(trial.client.result(evaluated.job)[COUNT_OUTPUT][0])
    features, labels = scaled(frame)
    model = open_model(trial, completed.job)
    exact = round(reference.accuracy(MODEL, model, features, labels) * len(labels))
    # Rows whose logit is within the features' encoding of zero may fall on either side; wrong rows below the cell are not told.
    unsure = int((np.abs(reference.logits(MODEL, model, features)[:, 0]) < 1e-2).sum())
    least = evaluated.job.outputs[0].min_cell
    told = exact if len(labels) - exact >= least else len(labels)
    assert abs(correct - told) <= unsure


@pytest.fixture(scope="module")
def of_rows(trial: Trial) -> Completed:
    """A private training on the rows of all hospitals, charged to each of them."""
    return trial.plan_and_complete(private(trial.train(TRAINING, model_name="private-rows"), TERMS))


def test_private_model_of_rows_is_accurate_and_evaluates(trial: Trial, of_rows: Completed, split: Split) -> None:
    completed = of_rows
    assert completed.plan.revealed_bits == 0
    sent = {party: said.payload_bytes for party, said in trial.progress(completed.job).items()}
    assert sent == {party: completed.plan.sent_bytes(party) for party in sent}
    holdout = pd.concat(split.holdout.values())
    assert accuracy(trial, completed, holdout) > LEAST_ACCURACY
    assert_evaluates(trial, completed, trial.evaluate(completed.model), pd.concat(split.holdout[party] for party in HOSPITALS))


def register(trial: Trial, party: str, name: str, frame: pd.DataFrame, secret: Path) -> None:
    columns = [column for column in frame.columns if (column.startswith("mean_") or column == "benign") == (party == FIRST)]
    file = trial.folder / f"{party}-{name}.csv"
    frame[columns].assign(patient_id=frame.index).to_csv(file, index=False)
    record = register_dataset(
        trial.network.party(party).config,
        name=name,
        file=file,
        schema_file=SCHEMAS[party],
        on_violation=OnViolation.REFUSE,
        now=datetime.now(UTC),
        align_by=AlignBy(secret, "private-trial"),
        population="held-out" if name.endswith("holdout") else "trained-on",
    )
    harness.permit(trial.network.party(party).config, record)


def test_private_model_of_columns_is_accurate_and_evaluates(trial: Trial, split: Split) -> None:
    secret = trial.folder / "private-alignment.key"
    make_alignment_secret(secret)
    train, holdout = pd.concat(split.train.values()), pd.concat(split.holdout.values())
    for party in (FIRST, OTHER):
        register(trial, party, "private-columns", train, secret)
        register(trial, party, "private-columns-holdout", holdout, secret)
    fields = {"type": "train", "model_name": "private-columns", "manifest": "model.json", "weights": "model.safetensors"}
    names = [f"{FIRST}/private-columns", f"{OTHER}/private-columns"]
    request = TrainRequest.model_validate(COMMON | fields | {"datasets": names, "training": TRAINING})
    prepared = prepare_job(trial.client, request, folder=trial.folder, now=datetime.now(UTC))
    completed = trial.plan_and_complete(private(prepared, TERMS))
    assert accuracy(trial, completed, holdout) > LEAST_ACCURACY
    held_out = [f"{name}-holdout" for name in names]
    evaluation = EvaluateRequest.model_validate(COMMON | {"type": "evaluate", "datasets": held_out, "model": completed.model})
    assert_evaluates(trial, completed, prepare_job(trial.client, evaluation, folder=trial.folder, now=datetime.now(UTC)), holdout)


@pytest.fixture(scope="module")
def log(trial: Trial, of_rows: Completed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit log of a hospital as it hands it to an auditor, after the training."""
    out = tmp_path_factory.mktemp("auditor") / LEAD
    export_log(trial.network.party(LEAD).config, out=out, now=datetime.now(UTC))
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewritten_by(trial: Trial, files: Mapping[str, bytes], entries: Sequence[Entry]) -> dict[str, bytes]:
    """The log with other entries, chained, hashed and signed as its party alone can; older checkpoints are left out."""
    bodies: list[bytes] = []
    for index, entry in enumerate(entries):
        previous = merkle.leaf_hash(bodies[-1]).hex() if bodies else NO_PREVIOUS
        bodies.append(entry_body(index=index, time=entry.time, kind=entry.kind, facts=entry.facts, previous=previous))
    key = trial.network.party(LEAD).config.folder.member.load_signing_key()
    return rewritten(files, bodies, key=key) | {"history": b""}


def audited(trial: Trial, files: Mapping[str, bytes], *trusted: bytes) -> Report:
    founder = trial.network.party(LEAD).config.folder.member.pinned_founder()
    return verify(files.get, founder_fingerprint=founder, witnesses=0, trusted=trusted)


def test_exported_log_of_a_private_training_verifies_with_its_charge(trial: Trial, of_rows: Completed, log: Path) -> None:
    assert standalone.main(["verify", str(log), "--witnesses", "0"]) == standalone.OK
    with one_transaction(trial.network.party(LEAD).config.folder.database_file) as tables:
        known = spent_with_noise(tables.ledger.of_account("dataset/train"))
    assert known.composed_epsilon is not None
    assert known.composed_epsilon >= Decimal(TERMS.epsilon)
    found = audited(trial, files_of(log)).accounts["dataset/train"]
    assert abs(Decimal(str(found["epsilon"])) - known.composed_epsilon) < Decimal("0.001")


def test_altered_copies_of_the_log_are_found_and_named(trial: Trial, of_rows: Completed, log: Path) -> None:
    """By whoever holds the key of the log: a charge made smaller, an entry left out, and a signature by another party."""
    files, job = files_of(log), of_rows.job.job_id
    entries = [read_entry(body) for body in bodies_of(files)]
    charged = {entry.kind: entry for entry in entries if entry.facts.get("job") == job}
    reserve, debit = charged[EntryKind.RESERVED], charged[EntryKind.DEBITED]

    smaller = replace(reserve, facts={**reserve.facts, "epsilon": "2"})
    with pytest.raises(Wrong) as caught:
        audited(trial, rewritten_by(trial, files, [*entries[: reserve.index], smaller, *entries[reserve.index + 1 :]]))
    assert str(caught.value).startswith(f"entry {reserve.index}: the account dataset/train does not stand where it says, but at")

    with pytest.raises(Wrong) as caught:
        audited(trial, rewritten_by(trial, files, [*entries[: reserve.index], *entries[reserve.index + 1 :]]))
    assert str(caught.value) == f"entry {debit.index - 1}: a budget was debited for job {job} without a reservation"
    # What leaves no contradiction is found by the checkpoint that somebody else has seen.
    without = rewritten_by(trial, files, [*entries[: debit.index], *entries[debit.index + 1 :]])
    audited(trial, without)
    with pytest.raises(Wrong, match="does not extend a trusted checkpoint"):
        audited(trial, without, files["checkpoint"])

    head = parse_checkpoint(parse_note(files["checkpoint"]).text)
    stranger = trial.network.party(DEALER).config.folder.member.load_signing_key()
    with pytest.raises(Wrong) as caught:
        audited(trial, files | {"checkpoint": sign_checkpoint(head, key=stranger).to_bytes()})
    assert str(caught.value) == f"the checkpoint of {head.size} entries is not signed by {head.origin}"
