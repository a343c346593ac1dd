"""Schemas and tables for tests: small ones made up here, and the breast-cancer table that ships with scikit-learn."""

from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer

from privacy.preparation.schema import TableSchema, read_schema
from privacy.preparation.schema_file import schema_from_yaml

EXAMPLES = Path(__file__).parents[2] / "examples"


def a_schema() -> TableSchema:
    """Four features of all types, a choice label, an identifier and an ignored column."""
    return read_schema(
        {
            "api_version": "confide/v1",
            "kind": "TableSchema",
            "name": "ward",
            "columns": [
                {"name": "patient", "role": "identifier"},
                {"name": "age", "role": "feature", "type": "integer", "range": ["0", "120"]},
                {"name": "dose", "role": "feature", "type": "float", "range": ["-1.5", "2.5"]},
                {"name": "smoker", "role": "feature", "type": "boolean"},
                {"name": "outcome", "role": "label", "type": "choice", "negative": "well", "positive": "ill"},
                {"name": "remark", "role": "ignored"},
            ],
        }
    )


def breast_cancer_schema() -> TableSchema:
    """The example schema."""
    return schema_from_yaml((EXAMPLES / "breast_cancer_schema.yaml").read_bytes())


def breast_cancer_frame() -> pd.DataFrame:
    """All 569 rows with the example schema's column names."""
    table = load_breast_cancer(as_frame=True)
    frame = table.data.rename(columns=lambda name: name.replace(" ", "_"))
    return frame.assign(benign=table.target.astype(bool))
