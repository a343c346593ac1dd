"""Identifiers and decimals as a policy's file holds them, checked where they are read."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from governance.policy.budgets import read_decimal
from protocols.job import ID_PATTERN


def _decimal(value: str) -> str:
    read_decimal(value)
    return value


def _identifier(value: str) -> str:
    if not ID_PATTERN.fullmatch(value):
        raise ValueError("an identifier is 1 to 63 of a-z, 0-9 and -, not at the ends")
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]
DecimalText = Annotated[str, AfterValidator(_decimal)]
