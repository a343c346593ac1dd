"""Three institutions train a small network on handwritten digits; nobody sees anybody's rows, or the network.

Real processes, certificates and sockets on loopback, on the digits that ship with scikit-learn: 64-32-10 with ReLU, or a small
convolutional network with `--model cnn`. Beside it the same training in the clear: the same initial weights, batches and epochs.
Run it with `make digits`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from parties.cli.job_words import outputs_in_words
from parties.client import Client
from privacy.preparation.contract import OnViolation, PreparedRows, prepare
from privacy.preparation.schema_file import schema_from_yaml
from privacy.preparation.table import Content, FileFormat, read_table
from protocols.job import Job, Task
from protocols.model import reference
from protocols.model.export import export_model
from protocols.mpc.row_order import row_order

OWNERS = ("party-a", "party-b", "party-c")
SCHEMA_FILE = Path(__file__).parent / "digits_schema.yaml"
JOB_TIMEOUT_S = 1_800.0
console = Console(highlight=False, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="how many splits and initial weights, one after the other")
    parser.add_argument("--model", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the rows")
    options = parser.parse_args()
    found = Table("seed", "joint accuracy", "in the clear", "equal predictions")
    with Client.local(parties=3) as client:
        for seed in range(options.seeds):
            figures = compare(client, options.model, seed, options.epochs)
            found.add_row(str(seed), *(f"{figure:.2%}" for figure in figures))
    console.print(found)


def compare(client: Client, model: str, seed: int, epochs: int) -> tuple[float, float, float]:
    """Trains jointly and in the clear; returns the accuracy of both on a researcher's samples, and how many labels agree."""
    known, samples = split_rows(seed)
    rows = {owner: known.iloc[number::3] for number, owner in enumerate(OWNERS)}
    for owner, own in rows.items():
        client.register(owner, "digits", own, SCHEMA_FILE)
    datasets = [f"{owner}/digits" for owner in OWNERS]

    torch.manual_seed(seed)
    module, shape = a_network(model)
    training = {"epochs": epochs, "batch_size": 32, "learning_rate": "0.05", "momentum": "0.9"}
    job = client.train(module, input_shape=shape, datasets=datasets, model_name=f"digits-{model}", training=training)
    job.wait(timeout_s=JOB_TIMEOUT_S)
    console.print(f"seed {seed}: {job.model} is trained; its shares lie at party-a and party-b")

    evaluated = client.evaluate(job.model, datasets=datasets, outputs=["correct_count", "confusion", "log_loss"])
    console.print(outputs_in_words(client.job(evaluated.id), evaluated.result(timeout_s=JOB_TIMEOUT_S)))

    truth = samples["digit"].to_numpy()
    joint = client.predict(job.model, samples.drop(columns="digit"), timeout_s=JOB_TIMEOUT_S)["label"].to_numpy()
    plain = predicted_in_the_clear(module, shape, client.job(job.id), rows, samples)
    return float(np.mean(joint == truth)), float(np.mean(plain == truth)), float(np.mean(joint == plain))


def a_network(model: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """Returns a network with torch's own initial weights, and the shape of a row as it takes it."""
    if model == "mlp":
        return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)), (64,)
    layers = [torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(128, 10)), (1, 8, 8)


def split_rows(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows of all owners, and a researcher's samples, under the columns of the schema."""
    pixels, digits = load_digits(return_X_y=True)
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    frame = pd.DataFrame(pixels.astype(int), columns=pd.Index(names)).assign(digit=digits)
    known, samples = train_test_split(frame, test_size=0.2, stratify=digits, random_state=seed)
    return known, samples


def predicted_in_the_clear(
    module: torch.nn.Module, shape: tuple[int, ...], job: Job, rows: dict[str, pd.DataFrame], samples: pd.DataFrame
) -> np.ndarray:
    """Trains as the joint job did, in one place and in float64, and predicts the samples."""
    if job.training is None:
        raise ValueError("only a training says how it was done")
    spec, initial = export_model(module, shape)
    own = [prepared(frame) for frame in rows.values()]
    features, labels = np.concatenate([part.features for part in own]), np.concatenate([part.labels for part in own])
    order = row_order(job.training.shuffle_seed, len(labels))
    weights = reference.train(spec, initial, features, labels, training=job.training, order=order, task=Task.CLASSES)
    return reference.predicted(spec, weights, prepared(samples).features, task=Task.CLASSES)


def prepared(frame: pd.DataFrame) -> PreparedRows:
    """Scales rows as their owner does."""
    schema = schema_from_yaml(SCHEMA_FILE.read_bytes())
    data = frame.to_csv(index=False).encode()
    table = read_table(data, schema, content=Content.LABELLED_ROWS, file_format=FileFormat.CSV)
    return prepare(table, schema, OnViolation.REFUSE)


if __name__ == "__main__":
    main()
