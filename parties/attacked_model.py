"""A model of several owners whose weights one of them has in the clear, as its attack in the clear finds it on disk.

Weights that a release opened are loaded under their licence and in no other way. The model takes rows as its trainings did:
scaled to [-1, 1] by the ranges of the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parties.agreements import load_member
from parties.attack_files import place_of, read_attacked, read_schema_file
from parties.config import PartyConfig
from parties.publication_files import read_model
from parties.released import is_released, require_own_use
from privacy.preparation.schema import TableSchema
from privacy.risk.assess import Canaries
from privacy.risk.own_model import OwnAttack, OwnRows, classes_of
from privacy.risk.shadows import ShadowRows
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import ModelRef
from protocols.model.spec import ModelSpec


@dataclass(frozen=True)
class AttackedModel:
    """What is attacked.

    Attributes:
        spec: the architecture; public.
        weights: float32 by parameter name; secret from whoever is no recipient.
        schema: of the rows that it takes; public.
        ref: the version that a licence names; None of files without one.
    """

    spec: ModelSpec
    weights: Mapping[str, NDArray[np.float32]] = field(repr=False)
    schema: TableSchema
    ref: ModelRef | None


@dataclass(frozen=True)
class AttackRowFiles:
    """Rows of the owner's under the model's schema; CSV or Parquet, secret.

    Attributes:
        members: that the model was trained on.
        others: of the same kind, that it was not trained on.
        planted: canaries that were planted among the members; None for none.
        references: drawn likewise, and not planted; None for none.
    """

    members: Path
    others: Path
    planted: Path | None = None
    references: Path | None = None


def licensed_model(config: PartyConfig, folder: Path, *, purpose: str, now: datetime) -> AttackedModel:
    """Reads weights that a release opened to a researcher of the party, if their licence permits this use now.

    Raises:
        ConfideError: LICENCE_REFUSED, with every reason; INVALID_DOCUMENT or BAD_SIGNATURE: a licence was altered;
            INVALID_SCHEMA (the owner's fault): the model predicts no classes.
    """
    released = require_own_use(folder, load_member(config, now).directory, party=config.party, purpose=purpose, now=now)
    schema = TableSchema.from_document(released.schema)
    return _checked(AttackedModel(released.model, released.weights, schema, released.licence.ref))


def model_of_files(manifest: Path, weights: Path, schema: Path) -> AttackedModel:
    """Reads weights that lie in the clear without a licence, such as those of a model of one's own.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): the weights were released, so their licence is asked, or the schema
            has another number of columns or classes than the model; INVALID_MODEL or INVALID_SCHEMA: a file cannot be read, or
            the model predicts no classes.
    """
    if is_released(weights.parent):
        what = f"{weights.parent} holds released weights, which are used under their licence"
        remedy = "Name the folder in place of --manifest and --weights, with --config and --purpose."
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, what, remedy=remedy)
    spec, found = read_model(manifest, weights)
    return _checked(AttackedModel(spec, found, read_schema_file(schema), None))


def read_attack(model: AttackedModel, files: AttackRowFiles) -> OwnRows:
    """Reads the rows that a model is attacked with; secret.

    Raises:
        ConfideError: INVALID_DATA (the owner's fault), naming the file: columns or cells that are not the schema's.
    """
    members, others = (_labelled(file, model.schema) for file in (files.members, files.others))
    canaries = None
    if files.planted is not None and files.references is not None:
        canaries = Canaries(_labelled(files.planted, model.schema), _labelled(files.references, model.schema))
    return OwnRows(members, others, canaries=canaries)


def what_is_attacked(model: AttackedModel, *, sensitive: str, hidden: tuple[str, ...], shadows: int, seed: int) -> OwnAttack:
    """Returns the attack on columns that are named; `hidden` empty for the sensitive one.

    Raises:
        ConfideError: INVALID_ARGUMENT (the owner's fault): no such feature.
    """
    features = model.schema.features
    places = [place_of(name, features) for name in (hidden or (sensitive,))]
    return OwnAttack(place_of(sensitive, features), places, shadows, seed)


def _labelled(file: Path, schema: TableSchema) -> ShadowRows:
    rows = read_attacked(file, schema)
    return ShadowRows(rows.features, rows.labels.astype(np.int64))


def _checked(model: AttackedModel) -> AttackedModel:
    schema = model.schema
    if not schema.has_label or schema.num_classes is None:
        what = "a model is attacked that tells classes apart, and the schema has no label of classes"
        raise ConfideError(ErrorCode.INVALID_SCHEMA, what, remedy="Bring the schema of the joined rows, with the label.")
    problems = [
        Problem(name, f"the schema has {of_schema}, the model {of_model}", "bring the schema that the model was trained under")
        for name, of_schema, of_model in (
            ("features", schema.num_features, model.spec.input_features),
            ("classes", schema.num_classes, classes_of(model.spec)),
        )
        if of_schema != of_model
    ]
    if problems:
        raise ConfideError(ErrorCode.INVALID_ARGUMENT, "the schema is not that of the model", problems=problems)
    return model
