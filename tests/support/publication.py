"""A small model of an institution and the files that publish it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.publishing import PublicationFiles
from protocols.model.layers import Linear, Relu, Sigmoid, Softmax, Square
from protocols.model.spec import ModelSpec
from protocols.model.weights import weights_to_safetensors

LINEAR = ModelSpec.chain(3, linear=Linear(1), end=Sigmoid())
SQUARED = ModelSpec.chain(3, first=Linear(4), act=Square(), last=Linear(2), end=Softmax())
RECTIFIED = ModelSpec.chain(3, first=Linear(4), act=Relu(), last=Linear(2), end=Softmax())
RANGES = "{age: [0, 120], pulse: [30, 250], weight: [2.5, 200]}"
LOW, HIGH = np.array([0.0, 30.0, 2.5]), np.array([120.0, 250.0, 200.0])
_ROWS = 40

TERMS = """
api_version: confide.publication/1
name: diagnosis
features: {features}
outputs: {outputs}
lanes: {lanes}
expires: 2099-01-31T00:00:00Z
"""


def weights_of(spec: ModelSpec, *, scale: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """Returns weights that follow from the architecture's names."""
    source = np.random.default_rng(7)
    return {each.name: (scale * source.normal(0, 0.5, each.shape)).astype(np.float32) for each in spec.parameters}


def rows_in_range() -> NDArray[np.float64]:
    """Returns `(40, 3)` rows within `RANGES`."""
    return np.asarray(LOW + (HIGH - LOW) * np.random.default_rng(8).random((_ROWS, 3)), np.float64)


def write_files(folder: Path, spec: ModelSpec, *, labels: NDArray[np.float64] | None = None) -> PublicationFiles:
    """Writes manifest, weights and validation rows; first-layer weights are such that rows in their own units matter alike."""
    weights = weights_of(spec)
    first = next(name for name in weights if name.endswith(".weight"))
    weights[first] = (weights[first] * (4 / (HIGH - LOW))).astype(np.float32)
    (folder / "model.json").write_text(json.dumps(spec.to_document(), indent=1))
    (folder / "model.safetensors").write_bytes(weights_to_safetensors(weights, spec))
    rows = rows_in_range()
    head, columns = ["pulse", "age", "weight"], [rows[:, 1], rows[:, 0], rows[:, 2]]
    if labels is not None:
        head, columns = [*head, "ill"], [*columns, labels]
    lines = [",".join(head), *(",".join(repr(float(value)) for value in row) for row in zip(*columns, strict=True))]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    label = "ill" if labels is not None else None
    return PublicationFiles(folder / "model.json", folder / "model.safetensors", folder / "rows.csv", label)


def write_terms(folder: Path, *, features: str = RANGES, outputs: str = "[]", lanes: str = "[]", more: str = "") -> Path:
    """Writes the terms; values as YAML."""
    path = folder / "terms.yaml"
    path.write_text(TERMS.format(features=features, outputs=outputs, lanes=lanes) + more)
    return path
