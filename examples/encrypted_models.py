"""Two models that one institution trained by itself, as it publishes them for encrypted queries.

A network 64-32-10 with squares as activations on the digits that ship with scikit-learn, and a logistic regression on its
breast-cancer table. Both are trained in the clear by their owner; what is protected is the weights, and a researcher's samples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from parties.publication_files import PublicationTerms
from parties.publishing import PublicationFiles
from protocols.model import reference
from protocols.model.export import export_model
from protocols.model.sklearn_export import export_sklearn
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors

LIFETIME = timedelta(days=1)
_LARGEST_PIXEL = 16


class Squares(torch.nn.Module):
    """The activation that costs least under encryption."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


@dataclass(frozen=True)
class OwnModel:
    """A model of an institution, and rows that it was not trained on.

    Attributes:
        name: to publish it under.
        spec: its architecture.
        weights: by parameter name; its owner's secret.
        samples: `(rows, features) float64`, those of a researcher.
        labels: `(rows,) int64`, what she knows of them.
        features: names of the columns; empty for arrays.
        ranges: by feature, least and largest value, as decimals; empty for -1 to 1.
        output_limit: no output is larger.
        members: `(rows, features) float64`, those that it was trained on; its owner's secret.
        member_labels: `(rows,) int64`, likewise.
    """

    name: str
    spec: ModelSpec
    weights: dict[str, NDArray[np.float32]]
    samples: NDArray[np.float64]
    labels: NDArray[np.int64]
    features: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    output_limit: float
    members: NDArray[np.float64]
    member_labels: NDArray[np.int64]

    @property
    def plain(self) -> NDArray[np.int64]:
        """The classes that the model gives the samples in the clear `(rows,) int64`."""
        return classes_of(reference.logits(self.spec, self.weights, self.samples))

    def write(self, folder: Path) -> PublicationFiles:
        """Writes manifest and weights as `confide model publish` takes them."""
        folder.mkdir(parents=True, exist_ok=True)
        manifest, weights = folder / f"{self.name}.json", folder / f"{self.name}.safetensors"
        manifest.write_text(json.dumps(self.spec.to_document()))
        weights.write_bytes(weights_to_safetensors(self.weights, self.spec))
        return PublicationFiles(manifest, weights)

    def write_rows(self, folder: Path) -> tuple[Path, Path]:
        """Writes the rows that it was and was not trained on as `confide model evidence own` takes them."""
        folder.mkdir(parents=True, exist_ok=True)
        names = self.features or tuple(f"feature-{number}" for number in range(self.members.shape[1]))
        written = []
        for name, rows, labels in (("members", self.members, self.member_labels), ("others", self.samples, self.labels)):
            file = folder / f"{name}.csv"
            header = ",".join([*names, "label"])
            np.savetxt(file, np.column_stack([rows, labels]), delimiter=",", header=header, comments="", fmt="%.9g")
            written.append(file)
        return written[0], written[1]

    @property
    def terms(self) -> PublicationTerms:
        """What its owner declares."""
        return PublicationTerms(
            name=self.name,
            features=self.features,
            ranges=self.ranges,
            input_range=(-1.0, 1.0),
            outputs=(),
            lanes=(),
            output_limit=self.output_limit,
            decimals=None,
            key_lifetime_s=3600,
            valid_from=None,
            expires=(datetime.now(UTC) + LIFETIME).replace(microsecond=0),
        )


def classes_of(outputs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the class of each row by its outputs `(rows, outputs)`: the largest, or whether the only one is above zero."""
    found = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0
    return np.asarray(found, np.int64)


def digits_network() -> OwnModel:
    """Trains the network; a second or two."""
    table = load_digits()
    rows = 2.0 * table.data / _LARGEST_PIXEL - 1.0
    known, samples, known_labels, labels = train_test_split(
        rows, table.target, test_size=0.25, stratify=table.target, random_state=0
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 32), Squares(), torch.nn.Linear(32, 10))
    _fit(network, torch.tensor(known, dtype=torch.float32), torch.tensor(known_labels))
    spec, weights = export_model(network, 64)
    # As the owner knows from the rows that it has; interval arithmetic would be certain and far too large.
    largest = float(np.abs(reference.logits(spec, weights, known)).max())
    return OwnModel("digits", spec, weights, samples, labels, (), (), 2.0 * largest, known, known_labels)


def breast_cancer_regression() -> OwnModel:
    """Fits the regression; its scaler is worked into its weights, so that samples stay in their own units."""
    table = load_breast_cancer()
    known, samples, known_labels, labels = train_test_split(
        table.data, table.target, test_size=0.25, stratify=table.target, random_state=0
    )
    spec, weights = export_sklearn(make_pipeline(StandardScaler(), LogisticRegression()).fit(known, known_labels))
    # Twice as far as the owner's own rows, so that a researcher's are inside too.
    low, high = known.min(axis=0), known.max(axis=0)
    ends = zip(low - (high - low) / 2, high + (high - low) / 2, strict=True)
    ranges = tuple((f"{first:.6f}", f"{last:.6f}") for first, last in ends)
    features = tuple(name.replace(" ", "_") for name in table.feature_names)
    largest = float(np.abs(reference.logits(spec, weights, known)).max())
    return OwnModel("breast-cancer-scores", spec, weights, samples, labels, features, ranges, 4.0 * largest, known, known_labels)


def _fit(network: torch.nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> None:
    optimiser = torch.optim.LBFGS(network.parameters(), max_iter=60, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        decay = sum((parameter**2).sum() for parameter in network.parameters())
        value = torch.nn.functional.cross_entropy(network(rows), labels) + 1e-4 * decay
        value.backward()
        return value

    optimiser.step(loss)
