"""What an owner brings to publish a model: manifest and weights, the terms, and validation rows.

api_version: confide.publication/1
name: diagnosis
features: {age: [0, 120], pulse: [30, 250]}    # with their ranges; or [age, pulse] and an input_range; or left out for arrays
outputs: [benign, malignant]
lanes: [latency, batch]                        # left out: all that the model can be asked by
output_limit: 20                               # no output is larger; left out: by interval arithmetic, which may be far too large
decimals: 3                                    # answers are not told finer; left out: as fine as their noise allows
key_lifetime_s: 86400
expires: 2027-01-31T00:00:00Z
datasets: [hospital-a/hearts/2]                # own rows behind it; their sensitivity class may refuse it
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from governance.encrypted.published import MAX_DECIMALS, MAX_FEATURES, MAX_KEY_LIFETIME_S, MAX_OUTPUTS
from governance.evidence.facts import MAX_ITEMS, is_dataset
from parties.consent_files import Identifier, Moment
from parties.policy_file import field_problem
from parties.storage.files import read_public
from parties.yaml_file import read_yaml
from protocols.ckks.offers import Validation
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.model.spec import ModelSpec
from protocols.model.weights import MAX_WEIGHT_BYTES, weights_from_safetensors

MAX_MANIFEST_BYTES = 1 << 20
MAX_VALIDATION_BYTES = 256 * 1024 * 1024
DEFAULT_KEY_LIFETIME_S = 24 * 3600
_SHOWN = 8
Weights = dict[str, NDArray[np.float32]]


def _dataset(label: str) -> str:
    if not is_dataset(label):
        raise ValueError("party/name/version is expected")
    return label


_Ends = Annotated[list[float], Field(min_length=2, max_length=2)]
_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Dataset = Annotated[str, AfterValidator(_dataset)]


@dataclass(frozen=True)
class PublicationTerms:
    """What an owner declares of a model that it publishes; public.

    Attributes:
        name: of the model.
        features: names of the columns of a sample; empty for arrays.
        ranges: by feature, as in `PublishedModel`; empty for one range for all.
        input_range: that range; of scaled features it is -1 to 1.
        outputs: names; empty for output-1, output-2, ...
        lanes: empty for all that can be.
        output_limit: no output is larger in absolute value; None for what interval arithmetic gives.
        decimals: answers are not told finer; None for as fine as noise allows.
        key_lifetime_s: keys are taken for so long.
        valid_from: None for now.
        expires: from then on nothing is answered.
        datasets: `party/name/version` of own data sets behind it; empty if that is not said.
    """

    name: str
    features: tuple[str, ...]
    ranges: tuple[tuple[str, str], ...]
    input_range: tuple[float, float]
    outputs: tuple[str, ...]
    lanes: tuple[str, ...]
    output_limit: float | None
    decimals: int | None
    key_lifetime_s: int
    valid_from: datetime | None
    expires: datetime
    datasets: tuple[str, ...] = ()


class PublicationFields(BaseModel):
    """The file of terms; what each field means stands in docs/encrypted-inference.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    api_version: Literal["confide.publication/1"]
    name: Identifier
    features: (
        Annotated[dict[_Name, _Ends], Field(min_length=1, max_length=MAX_FEATURES)]
        | Annotated[list[_Name], Field(min_length=1, max_length=MAX_FEATURES)]
        | None
    ) = None
    input_range: _Ends = [-1.0, 1.0]
    outputs: Annotated[list[_Name], Field(max_length=MAX_OUTPUTS)] = []
    lanes: list[Literal["latency", "packed", "batch"]] = []
    output_limit: Annotated[float, Field(gt=0, le=1e9)] | None = None
    decimals: Annotated[int, Field(ge=0, le=MAX_DECIMALS)] | None = None
    key_lifetime_s: Annotated[int, Field(ge=1, le=MAX_KEY_LIFETIME_S)] = DEFAULT_KEY_LIFETIME_S
    valid_from: Moment | None = None
    expires: Moment
    datasets: Annotated[list[_Dataset], Field(max_length=MAX_ITEMS)] = []


def load_publication_terms(path: Path) -> PublicationTerms:
    """Reads the terms of a publication.

    Raises:
        ConfideError: INVALID_CONFIG (its author's fault) with every problem's file, line and field; INVALID_ARGUMENT if the
            file cannot be read.
    """
    file = read_yaml(path)
    try:
        fields = PublicationFields.model_validate(dict(file.content))
    except ValidationError as error:
        problems = [field_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems) from None
    found: tuple[tuple[str, str], ...] = ()
    if isinstance(fields.features, dict):
        wrong = [name for name, (low, high) in fields.features.items() if not low < high]
        if wrong or "input_range" in fields.model_fields_set:
            what = "the lower end comes first" if wrong else "ranges by feature stand beside a range for all"
            problem = file.problem(
                ("features", *wrong[:1]), what, "write the least and then the largest value of each, or one for all"
            )
            raise ConfideError(ErrorCode.INVALID_CONFIG, f"1 problem(s) in {path}", problems=[problem])
        found = tuple((_decimal(low), _decimal(high)) for low, high in fields.features.values())
    low, high = fields.input_range
    return PublicationTerms(
        name=fields.name,
        features=tuple(fields.features or ()),
        ranges=found,
        input_range=(low, high),
        outputs=tuple(fields.outputs),
        lanes=tuple(fields.lanes),
        output_limit=fields.output_limit,
        decimals=fields.decimals,
        key_lifetime_s=fields.key_lifetime_s,
        valid_from=fields.valid_from,
        expires=fields.expires,
        datasets=tuple(fields.datasets),
    )


def require_trained_ranges(terms: PublicationTerms, trained: Mapping[str, tuple[float, float]]) -> None:
    """Refuses ranges of released weights that are not those by which the rows they were trained on were scaled.

    Under others every answer would be wrong, and nothing would show it.

    Args:
        terms: with ranges.
        trained: by feature, in order, the least and greatest value; public.

    Raises:
        ConfideError: INVALID_ARGUMENT (the publisher's fault): other names, another order, or other ranges.
    """
    stated = {name: (float(low), float(high)) for name, (low, high) in zip(terms.features, terms.ranges, strict=True)}
    if list(stated) != list(trained):
        problems = [Problem("features", "are not those of the weights' schema, in its order", f"write {', '.join(trained)}")]
    else:
        problems = [
            Problem(f"features.{name}", "another range than rows were scaled by", f"write [{low:.15g}, {high:.15g}]")
            for name, (low, high) in trained.items()
            if stated[name] != (low, high)
        ]
    if problems:
        what = "the terms do not fit the rows that the released weights were trained on"
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, problems=problems[:_SHOWN])


def read_model(manifest: Path, weights: Path) -> tuple[ModelSpec, Weights]:
    """Reads a model as `protocols.model.export` and `protocols.model.weights` write it.

    Raises:
        ConfideError: INVALID_MODEL (its author's fault); INVALID_ARGUMENT: a file cannot be read.
    """
    spec = ModelSpec.from_document(_manifest(manifest))
    return spec, weights_from_safetensors(read_public(weights, max_bytes=MAX_WEIGHT_BYTES), spec)


def read_validation(path: Path, *, features: tuple[str, ...], num_features: int, label: str | None) -> Validation:
    """Reads validation rows: CSV with a header, columns in any order, numbers only.

    Args:
        path: the file; secret.
        features: names of the columns that the model takes; empty for all but the label's, in the file's order.
        num_features: how many the model takes.
        label: the column of labels, numbers; None for none.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault), with lines and columns, and no value; INVALID_ARGUMENT: it cannot be read.
    """
    lines = _lines(path)
    header = lines[0] if lines else []
    wanted = list(features) or [name for name in header if name != label]
    missing = [name for name in (*wanted, *([label] if label is not None else [])) if header.count(name) != 1]
    if missing:
        raise _refused(path, [Problem(name, "is not exactly one column", "name it in the header") for name in missing[:_SHOWN]])
    if len(wanted) != num_features or len(lines) < 2:
        what = (
            f"{len(wanted)} columns and {max(len(lines) - 1, 0)} rows; the model takes {num_features} columns, and a row at least"
        )
        raise _refused(path, [Problem(str(path), what, "name the label column, or leave the others out")])
    places = [header.index(name) for name in (*wanted, *([label] if label is not None else []))]
    values, problems = np.empty((len(lines) - 1, len(places))), []
    for number, line in enumerate(lines[1:]):
        try:
            values[number] = [float(line[place]) for place in places]
        except (ValueError, IndexError):
            values[number] = np.nan
        if not np.isfinite(values[number]).all():
            problems.append(Problem(f"row {number + 1}", "a value is missing or no finite number", "complete or remove the row"))
    if problems:
        raise _refused(path, problems[:_SHOWN])
    split = len(wanted)
    return Validation(values[:, :split], values[:, split] if label is not None else None)


def read_names(path: Path, *, features: tuple[str, ...], label: str) -> tuple[str, ...]:
    """Returns the names of the columns that a model takes of such rows: those that are given, else all but the label's.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): it is not CSV; INVALID_ARGUMENT: it cannot be read.
    """
    lines = _lines(path)
    return features or tuple(name for name in (lines[0] if lines else []) if name != label)


def read_column(path: Path, name: str) -> tuple[str, ...]:
    """Reads one column of a file of rows as it stands; secret.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault): it is not CSV, or has not exactly one such column; INVALID_ARGUMENT: it
            cannot be read.
    """
    lines = _lines(path)
    header = lines[0] if lines else []
    if header.count(name) != 1 or any(len(line) != len(header) for line in lines[1:]):
        raise _refused(path, [Problem(name, "is not exactly one column of every row", "name it in the header")])
    place = header.index(name)
    return tuple(line[place] for line in lines[1:])


def _lines(path: Path) -> list[list[str]]:
    try:
        text = read_public(path, max_bytes=MAX_VALIDATION_BYTES).decode("utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise _refused(path, [Problem(str(path), "is not CSV in UTF-8", "export it again")]) from None


def _manifest(path: Path) -> dict[str, object]:
    try:
        found = json.loads(read_public(path, max_bytes=MAX_MANIFEST_BYTES).decode("utf-8"))
    except (ValueError, RecursionError):
        raise ConfideError(ErrorCode.INVALID_MODEL, f"{path} is not a manifest", remedy="Export the model again.") from None
    if not isinstance(found, dict):
        raise ConfideError(ErrorCode.INVALID_MODEL, f"{path} is not a manifest", remedy="Export the model again.")
    return found


def _decimal(value: float) -> str:
    # The shortest decimal that reads back as the same number, as the file has it.
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def _refused(path: Path, problems: list[Problem]) -> ConfideError:
    return ConfideError(ErrorCode.INVALID_DATA, f"{len(problems)} problem(s) in {path}", problems=problems)
