"""Reads a schema from YAML."""

from __future__ import annotations

from privacy.preparation.schema import TableSchema, read_schema
from privacy.preparation.yaml_tree import mapping_from_yaml
from protocols.errors import ErrorCode

MAX_SCHEMA_BYTES = 1024 * 1024


def schema_from_yaml(data: bytes) -> TableSchema:
    """Reads a schema file.

    Args:
        data: the file's bytes, UTF-8, at most `MAX_SCHEMA_BYTES`.

    Raises:
        ConfideError: INVALID_SCHEMA (the author's fault): not YAML (with the line), or every problem with its path
            (`columns[3].range`).
    """
    return read_schema(mapping_from_yaml(data, max_bytes=MAX_SCHEMA_BYTES, what="schema", code=ErrorCode.INVALID_SCHEMA))
