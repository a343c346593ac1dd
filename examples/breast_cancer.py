"""The rows of the demo: the breast-cancer table that ships with scikit-learn, split over three hospitals and a researcher.

In the demo alone one place sees them all, to compare with training in the clear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from privacy.preparation.contract import OnViolation, prepare
from privacy.preparation.schema import TableSchema
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.canonical import canonical_bytes
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.weights import weights_to_safetensors
from protocols.mpc.row_order import row_order
from protocols.training import Training

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
SCHEMA_FILE = Path(__file__).parent / "breast_cancer_schema.yaml"
RESEARCH_SAMPLES = 20


@dataclass(frozen=True)
class Split:
    """Who owns which rows to train on and to evaluate on, and the researcher's own samples with her diagnosis."""

    train: dict[str, pd.DataFrame]
    holdout: dict[str, pd.DataFrame]
    researcher: pd.DataFrame


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


def export_logistic_regression(folder: Path) -> None:
    """Exports an ordinary torch module, with zero weights, as manifest and safetensors."""
    folder.mkdir()
    module = torch.nn.Sequential(torch.nn.Linear(30, 1))
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    spec, weights = export_model(module, 30)
    (folder / "model.json").write_bytes(canonical_bytes(spec.to_document()))
    (folder / "model.safetensors").write_bytes(weights_to_safetensors(weights, spec))


def in_the_clear(split: Split, training: Training) -> tuple[float, dict[str, float]]:
    """Trains in the clear without noise: on all rows together, and at each institution alone; returns accuracies.

    Settings that suit a training without noise: mini-batches and a larger rate.
    """
    training = replace(
        training, epochs=15, batch_size=48, privacy=None, optimiser=replace(training.optimiser, learning_rate="0.5")
    )
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
