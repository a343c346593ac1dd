"""Writes what a trial of three institutions by hand needs: rows, samples, a model and requests (docs/jobs.md).

The rows are those of the breast-cancer table that ships with scikit-learn, split over `party-a`, `party-b` and `party-c`.
Besides, the columns of the rows to train on are split over `party-a`, who has the label, and `party-b`, in one order of patients.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from protocols.model.export import export_model
from protocols.model.weights import weights_to_safetensors

PARTIES = ("party-a", "party-b", "party-c")
MODEL = "diagnosis@0123456789ab  # put the version here that `confide job wait` prints after training"
COMMON = """api_version: confide/v1
computing_parties: [party-a, party-b]
dealer: party-c
"""
REQUESTS = {
    "train": """type: train
datasets: [party-a/train, party-b/train, party-c/train]
model_name: diagnosis
manifest: model.json
weights: model.safetensors
training: {epochs: 15, batch_size: 48, learning_rate: "0.5", momentum: "0.9"}
""",
    "train-columns": """type: train
datasets: [party-a/columns, party-b/columns]    # in the order in which their columns stand in the model
partition: columns                              # other columns of the same people, aligned beforehand
model_name: diagnosis
manifest: model.json
weights: model.safetensors
training: {epochs: 15, batch_size: 48, learning_rate: "0.5", momentum: "0.9"}
""",
    "evaluate": f"""type: evaluate
datasets: [party-a/holdout, party-b/holdout, party-c/holdout]
model: {MODEL}
""",
    "infer": f"""type: infer
model: {MODEL}
samples: samples.csv
output: label
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if missing")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder)
    module = torch.nn.Sequential(torch.nn.Linear(30, 1))
    spec, weights = export_model(module, input_features=30)
    (folder / "model.json").write_text(json.dumps(spec.to_document()))
    (folder / "model.safetensors").write_bytes(weights_to_safetensors(weights, spec))
    for name, request in REQUESTS.items():
        (folder / f"{name}.yaml").write_text(COMMON + request)


def write_rows(folder: Path) -> None:
    """Writes training and held-out rows of every party, and ten samples of the researcher's own, without their label."""
    table = load_breast_cancer(as_frame=True)
    frame = table.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame["benign"] = table.target
    rest, samples = train_test_split(frame, test_size=10, stratify=frame["benign"], random_state=1)
    train, holdout = train_test_split(rest, test_size=0.2, stratify=rest["benign"], random_state=1)
    for number, party in enumerate(PARTIES):
        train.iloc[number::3].to_csv(folder / f"{party}-train.csv", index=False)
        holdout.iloc[number::3].to_csv(folder / f"{party}-holdout.csv", index=False)
    samples.drop(columns="benign").to_csv(folder / "samples.csv", index=False)
    patients = [f"patient-{row}" for row in train.index]
    of_first = train.columns.str.startswith("mean_") | (train.columns == "benign")
    for party, columns in zip(PARTIES, (of_first, ~of_first), strict=False):
        train.loc[:, columns].assign(patient_id=patients).to_csv(folder / f"{party}-columns.csv", index=False)


if __name__ == "__main__":
    main()
