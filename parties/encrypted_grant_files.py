"""Grants for published models as people write them.

api_version: confide.encrypted-grant/1
agreement: prognosis-2026             # name or digest
model: diagnosis@0123456789ab         # as `confide model published` shows it
purposes: [prognosis]
recipients: [alice, institution/hospital-b]
max_answers: 500                      # numbers that may be learnt in all; an answer counts as all that its layout holds
max_answers_per_key: 100              # left out: as many as in all
max_requests_per_hour: 60
counts_as_known: false                # true: they may work out the model
expires: 2026-12-31T00:00:00Z
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from governance.encrypted.grant import MAX_ANSWERS, MAX_RATE
from parties.consent_files import Identifiers, Moment
from parties.policy_file import field_problem
from parties.yaml_file import YamlFile, read_yaml
from protocols.errors import ConfideError, ErrorCode
from protocols.job import ModelRef

ENCRYPTED_GRANT_VERSION = "confide.encrypted-grant/1"
DEFAULT_REQUESTS_PER_HOUR = 600


@dataclass(frozen=True)
class EncryptedGrantTerms:
    """What an owner permits, before it is bound to this party and a nonce; fields as in `EncryptedGrant`.

    Attributes:
        agreement: digest of an agreement that is known here, the beginning of it, or its name.
        model: the published model.
        max_answers_per_key: None for `max_answers`.
        valid_from: None for now.
    """

    agreement: str
    model: ModelRef
    purposes: tuple[str, ...]
    recipients: tuple[str, ...]
    max_answers: int
    expires: datetime
    max_answers_per_key: int | None = None
    max_requests_per_hour: int = DEFAULT_REQUESTS_PER_HOUR
    counts_as_known: bool = False
    valid_from: datetime | None = None


class EncryptedGrantFields(BaseModel):
    """A grant for a published model; what each field means stands in docs/encrypted-inference.md."""

    # Nothing is converted: a number written as yes would hide a mistake.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    api_version: Literal["confide.encrypted-grant/1"]
    agreement: Annotated[str, Field(min_length=1, max_length=64)]
    model: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}@[0-9a-f]{12}$")]
    purposes: Identifiers
    recipients: Annotated[list[Annotated[str, Field(max_length=80)]], Field(min_length=1)]
    max_answers: Annotated[int, Field(ge=1, le=MAX_ANSWERS)]
    max_answers_per_key: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    max_requests_per_hour: Annotated[int, Field(ge=1, le=MAX_RATE)] = DEFAULT_REQUESTS_PER_HOUR
    counts_as_known: bool = False
    valid_from: Moment | None = None
    expires: Moment


def is_encrypted_grant(path: Path) -> bool:
    """Returns whether a file says that it is a grant for a published model, whatever else it says.

    Raises:
        ConfideError: INVALID_CONFIG (its author's fault): not YAML; INVALID_ARGUMENT: it cannot be read.
    """
    return read_yaml(path).content.get("api_version") == ENCRYPTED_GRANT_VERSION


def load_encrypted_grant_terms(path: Path) -> EncryptedGrantTerms:
    """Reads what a grant for a published model is to permit.

    Raises:
        ConfideError: INVALID_CONFIG (its author's fault) with every problem's file, line and field; INVALID_ARGUMENT if the
            file cannot be read.
    """
    file = read_yaml(path)
    fields = _fields(file, path)
    name, _, version = fields.model.partition("@")
    return EncryptedGrantTerms(
        agreement=fields.agreement,
        model=ModelRef(name, version),
        purposes=tuple(fields.purposes),
        recipients=tuple(fields.recipients),
        max_answers=fields.max_answers,
        max_answers_per_key=fields.max_answers_per_key,
        max_requests_per_hour=fields.max_requests_per_hour,
        counts_as_known=fields.counts_as_known,
        valid_from=fields.valid_from,
        expires=fields.expires,
    )


def encrypted_grant_schema() -> dict[str, object]:
    """Returns the JSON Schema of the file of a grant for a published model."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **EncryptedGrantFields.model_json_schema()}


def _fields(file: YamlFile, path: Path) -> EncryptedGrantFields:
    try:
        return EncryptedGrantFields.model_validate(dict(file.content))
    except ValidationError as error:
        problems = [field_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
    raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems)
