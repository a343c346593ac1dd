"""Reads a contract of a data set from YAML."""

from __future__ import annotations

from privacy.preparation.data_contract import DataContract, read_contract
from privacy.preparation.yaml_tree import mapping_from_yaml
from protocols.errors import ErrorCode

MAX_CONTRACT_BYTES = 1024 * 1024


def contract_from_yaml(data: bytes) -> DataContract:
    """Reads a contract file.

    Args:
        data: the file's bytes, UTF-8, at most `MAX_CONTRACT_BYTES`.

    Raises:
        ConfideError: INVALID_CONTRACT (the author's fault): not YAML (with the line), or every problem with its path
            (`columns[3].role`).
    """
    return read_contract(mapping_from_yaml(data, max_bytes=MAX_CONTRACT_BYTES, what="contract", code=ErrorCode.INVALID_CONTRACT))
