"""Three institutions train a model together and a researcher queries it; nobody sees anybody's secret.

Real processes, certificates and sockets on loopback, the breast-cancer table that ships with scikit-learn. Two institutions
compute, the third deals, all three own rows. Run it with `make demo`; it writes build/demo/summary.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from parties import harness
from parties.cli.job_words import count_in_words, plan_in_words
from parties.client.client import Client, PreparedJob
from parties.client.prepare import COUNT_OUTPUT, PREDICTION_OUTPUT, prepare_job
from parties.client.requests import EvaluateRequest, InferRequest, JobRequest, TrainingRequest, TrainRequest
from parties.registration import register_dataset
from privacy.preparation.contract import OnViolation, prepare
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.canonical import canonical_bytes
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.weights import weights_to_safetensors
from protocols.mpc.row_order import row_order
from protocols.plan.plan import Plan
from protocols.session.states import State
from protocols.training import Training

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
COMPUTING, DEALER = ["hospital-a", "hospital-b"], "hospital-c"
SCHEMA_FILE = Path(__file__).parent / "breast_cancer_schema.yaml"
SETTINGS = TrainingRequest(epochs=15, batch_size=48, learning_rate="0.5", momentum="0.9")
RESEARCH_SAMPLES = 20
JOB_TIMEOUT_S = 120.0
# As wide as the terminal, at most 100 columns; 100 where there is none.
console = Console(width=min(100, shutil.get_terminal_size((100, 24)).columns), highlight=False, markup=False)


@dataclass(frozen=True)
class Split:
    """Who owns which rows; in the demo alone one place sees them all, to compare with training in the clear."""

    train: dict[str, pd.DataFrame]
    holdout: dict[str, pd.DataFrame]
    researcher: pd.DataFrame


@dataclass
class Measured:
    """What the plan says, what the links counted, and how long it took, by job name."""

    plan: dict[str, dict[str, int]] = field(default_factory=dict)
    measured: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for everything that the demo makes")
    out: Path = parser.parse_args().out
    began = time.monotonic()
    clear(out)
    split = split_rows()
    console.rule("1. Enrolment: keys made at each institution, fingerprints approved")
    network = harness.up(out / "consortium", parties=HOSPITALS)
    try:
        summary = run(network, split, out)
    finally:
        harness.down(network.folder)
    summary["seconds"] = round(time.monotonic() - began, 1)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(f"\nWhole demo: {summary['seconds']} s; figures in {out / 'summary.json'}")
    if summary["plan"] != summary["measured"]:
        sys.exit("The links did not carry what the plan says.")


def run(network: harness.Harness, split: Split, out: Path) -> dict[str, object]:
    """Registers everybody's rows and runs the three jobs; returns what goes into the summary."""
    client = Client.open(network.researcher_config, now=datetime.now(UTC))
    for entry in client.directory.parties:
        roles = ", ".join(role.value for role in entry.roles)
        console.print(f"  {entry.id}, key {entry.signing_key.fingerprint[:16]}…, may be {roles}")

    console.rule("2. Registration: rows are checked, sealed and stay where they are")
    register(network, split, out)

    counted = Measured()
    folder = export_logistic_regression(out)
    console.rule("3. Joint training")
    train = TrainRequest(
        api_version="confide/v1",
        type="train",
        computing_parties=COMPUTING,
        dealer=DEALER,
        datasets=[f"{hospital}/train" for hospital in HOSPITALS],
        model_name="breast-cancer",
        manifest="model.json",
        weights="model.safetensors",
        training=SETTINGS,
    )
    trained = submit(client, train, folder, "train", counted)
    produced = trained.job.produced_model
    if produced is None or trained.job.training is None:
        sys.exit("The training left no model.")
    model = produced.label

    console.rule("4. Joint evaluation on rows that nobody trained on")
    evaluate = EvaluateRequest(
        api_version="confide/v1",
        type="evaluate",
        computing_parties=COMPUTING,
        dealer=DEALER,
        datasets=[f"{hospital}/holdout" for hospital in HOSPITALS],
        model=model,
    )
    evaluated = submit(client, evaluate, folder, "evaluate", counted)
    correct, rows = int(client.result(evaluated.job)[COUNT_OUTPUT][0]), evaluated.job.num_rows
    least = evaluated.job.outputs[0].min_cell
    console.print(f"  correct: {count_in_words(correct, num_rows=rows, min_cell=least)}; nothing else was opened")
    fewest = rows - least + 1 if correct == rows else correct

    console.rule("5. A researcher's private inference on samples of her own")
    infer = InferRequest(
        api_version="confide/v1",
        type="infer",
        computing_parties=COMPUTING,
        dealer=DEALER,
        model=model,
        samples="(in memory)",
        output="label",
    )
    asked = submit(client, infer, folder, "infer", counted, samples=split.researcher.drop(columns="benign"))
    predicted = client.result(asked.job)[PREDICTION_OUTPUT]
    right = int(np.sum(predicted == split.researcher["benign"].to_numpy()))
    console.print(f"  {len(predicted)} labels, seen by the researcher alone; {right} agree with her own diagnosis")
    client.close()

    joint = (fewest / rows, correct / rows)
    pooled, alone = in_the_clear(split, trained.job.training)
    closing_table(joint, pooled, alone, counted)
    return {
        "joint_accuracy_from_to": joint,
        "pooled_plaintext_accuracy": pooled,
        "alone_accuracy": alone,
        "research_labels_right": right,
        "plan": counted.plan,
        "measured": counted.measured,
    }


def clear(out: Path) -> None:
    """Removes what an earlier demo left, after stopping it; never anything else."""
    if (out / "consortium" / "harness.json").exists():
        harness.down(out / "consortium")
    for name in ("consortium", "rows", "model"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "rows").mkdir(parents=True)


def split_rows() -> Split:
    table = load_breast_cancer(as_frame=True)
    frame = table.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame["benign"] = table.target
    rest, researcher = train_test_split(frame, test_size=RESEARCH_SAMPLES, stratify=frame["benign"], random_state=1)
    train, holdout = train_test_split(rest, test_size=0.2, stratify=rest["benign"], random_state=1)
    return Split(
        train={hospital: train.iloc[i::3] for i, hospital in enumerate(HOSPITALS)},
        holdout={hospital: holdout.iloc[i::3] for i, hospital in enumerate(HOSPITALS)},
        researcher=researcher,
    )


def register(network: harness.Harness, split: Split, out: Path) -> None:
    for hospital in HOSPITALS:
        for name, frames in (("train", split.train), ("holdout", split.holdout)):
            file = out / "rows" / f"{hospital}-{name}.csv"
            frames[hospital].to_csv(file, index=False)
            record = register_dataset(
                network.party(hospital).config,
                name=name,
                file=file,
                schema_file=SCHEMA_FILE,
                on_violation=OnViolation.REFUSE,
                now=datetime.now(UTC),
            )
            console.print(f"  {hospital}/{name}: {record.num_rows} rows, commitment {record.commitment[:16]}…")


def export_logistic_regression(out: Path) -> Path:
    """Exports an ordinary torch module, with zero weights, as manifest and safetensors."""
    folder = out / "model"
    folder.mkdir()
    module = torch.nn.Sequential(torch.nn.Linear(30, 1))
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    spec, weights = export_model(module, 30)
    (folder / "model.json").write_bytes(canonical_bytes(spec.to_document()))
    (folder / "model.safetensors").write_bytes(weights_to_safetensors(weights, spec))
    return folder


def submit(
    client: Client, request: JobRequest, folder: Path, name: str, counted: Measured, *, samples: pd.DataFrame | None = None
) -> PreparedJob:
    """Shows the plan, runs the job to its end, and keeps what was planned and measured."""
    prepared = prepare_job(client, request, folder=folder, now=datetime.now(UTC), samples=samples)
    plan = client.plan(prepared.job)
    console.print(plan_in_words(plan))
    began = time.monotonic()
    client.submit(prepared)
    ending = client.wait(prepared.job, timeout_s=JOB_TIMEOUT_S)
    if ending.state is not State.COMPLETED:
        sys.exit(f"The {name} job was {ending.state.value}: {ending.code} {ending.cause} ({ending.remedy})")
    said = [client.progress(prepared.job.job_id, party) for party in prepared.job.participants]
    counted.plan[name] = planned(plan)
    counted.measured[name] = {"rounds": max(p.rounds for p in said), "bytes": sum(p.payload_bytes for p in said)}
    framing = sum(p.frame_bytes for p in said) - counted.measured[name]["bytes"]
    counted.seconds[name] = time.monotonic() - began
    console.print(f"\n  completed in {counted.seconds[name]:.1f} s; countersigned by all; {framing:,} bytes of framing beside it")
    return prepared


def planned(plan: Plan) -> dict[str, int]:
    return {"rounds": plan.rounds, "bytes": plan.payload_bytes}


def in_the_clear(split: Split, training: Training) -> tuple[float, dict[str, float]]:
    """Trains in the clear with the same settings: on all rows together, and at each institution alone."""
    schema = schema_from_yaml(SCHEMA_FILE.read_bytes())
    spec, zeros = export_model(torch.nn.Sequential(torch.nn.Linear(30, 1)), 30)
    start = {name: np.zeros_like(value) for name, value in zeros.items()}
    features, labels = scaled(pd.concat(split.holdout.values()), schema)

    def accuracy(rows: pd.DataFrame) -> float:
        own_features, own_labels = scaled(rows, schema)
        order = row_order(training.shuffle_seed, len(own_labels))
        weights = reference.train(spec, start, own_features, own_labels, training=training, order=order)
        return reference.accuracy(spec, weights, features, labels)

    return accuracy(pd.concat(split.train.values())), {hospital: accuracy(rows) for hospital, rows in split.train.items()}


def scaled(frame: pd.DataFrame, schema: TableSchema) -> tuple[np.ndarray, np.ndarray]:
    data = frame.to_csv(index=False).encode()
    table = read_table(data, schema, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)
    rows = prepare(table, schema, OnViolation.REFUSE)
    return rows.features, rows.labels


def closing_table(joint: tuple[float, float], pooled: float, alone: dict[str, float], counted: Measured) -> None:
    console.rule("What came of it")
    accuracies = Table("model", "accuracy on the same held-out rows")
    # A handful of wrong rows is not told, so what is known of the accuracy is a range.
    at_least, at_most = joint
    shown = f"{at_least:.1%}" if at_least == at_most else f"{at_least:.1%} or more"
    accuracies.add_row("joint: nobody saw rows or weights", shown)
    accuracies.add_row("pooled in the clear, same settings", f"{pooled:.1%}")
    for hospital, value in alone.items():
        accuracies.add_row(f"{hospital} alone", f"{value:.1%}")
    console.print(accuracies)
    costs = Table("job", "seconds", "rounds planned", "measured", "payload bytes planned", "measured")
    for column in costs.columns[1:]:
        column.justify = "right"
    for name, plan in counted.plan.items():
        measured = counted.measured[name]
        figures = (plan["rounds"], measured["rounds"], plan["bytes"], measured["bytes"])
        costs.add_row(name, f"{counted.seconds[name]:.1f}", *(f"{figure:,}" for figure in figures))
    console.print(costs)
    learned = Table("who", "learned")
    learned.add_row(
        "hospital-a, hospital-b (computing)",
        "shapes, schedule, volumes; of everything else one share and masked values, uniform each",
    )
    learned.add_row("hospital-c (dealer)", "shapes and schedule from the plan; no message of the computation")
    learned.add_row("every hospital", "of the others' rows, how many there are")
    learned.add_row("the researcher", "how many held-out rows are right; the labels of her own samples")
    learned.add_row("nobody", "another one's rows, the weights, losses, gradients, the researcher's samples")
    console.print(learned)
    console.print("If the dealer and a computing party pool what they hold, they can read all of it: SECURITY.md.")


if __name__ == "__main__":
    main()
