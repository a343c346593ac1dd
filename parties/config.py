"""Configuration of a party (`party.yaml`) and of a researcher (`researcher.yaml`).

Unknown fields and unsafe values are refused with file, line and field. No secret stands in a configuration: keys lie in the
state folder, in files of mode 0600. There is no switch that turns a protection off.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from governance.identity.names import check_endpoint, check_id
from parties.storage.files import write_public
from parties.storage.state import MemberFolder, StateFolder
from parties.yaml_file import YamlFile, read_yaml
from protocols.errors import ConfideError, ErrorCode, Problem
from protocols.job import MAX_QUERY_ROWS, MAX_ROWS

PARTY_FORMAT = "confide.party/1"
RESEARCHER_FORMAT = "confide.researcher/1"
PARTY_FILE = "party.yaml"
RESEARCHER_FILE = "researcher.yaml"
LEAST_EVALUATION_ROWS = 10
LEAST_CELL = 3


def _member_id(value: str) -> str:
    return _sound(value, check_id("", value))


def _endpoint(value: str) -> str:
    return _sound(value, check_endpoint("", value))


def _sound(value: str, problems: Iterable[Problem]) -> str:
    for problem in problems:
        raise ValueError(f"{problem.what}; {problem.remedy}")
    return value


def _private_endpoint(value: str) -> str:
    host = _endpoint(value).rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("a private listener names an address, not a host name; write for example 127.0.0.1:9464") from None
    if not address.is_private or address.is_unspecified:
        raise ValueError("metrics are served on a loopback or private address only; write for example 127.0.0.1:9464")
    return value


MemberId = Annotated[str, AfterValidator(_member_id)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
PrivateEndpoint = Annotated[str, AfterValidator(_private_endpoint)]
LogLevel = Literal["debug", "info", "warning", "error"]


class _Strict(BaseModel):
    # Nothing is converted: a port written as text or a number written as yes would hide a mistake.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class PartyConfig(_Strict):
    """What an institution configures; paths are absolute once loaded.

    Attributes:
        api_version: format of the file.
        party: id of this party.
        listen: `host:port` that the one public gRPC port binds to.
        state: the state folder; relative paths count from the file.
        policy: the file with its people, rules and budgets; relative paths count from the file.
        min_evaluation_rows: an evaluation over fewer rows is refused here, since its count would tell about single rows.
        max_rows: a registration, and a job over all its data sets, with more rows is refused here.
        max_query_rows: an inference over more samples is refused here.
        max_servings_per_model: so many servings of one model may be open here at once; 0 if no model is served here.
        min_cell: an evaluation whose outputs may tell of fewer rows than this is refused here.
        cores: processor cores that sessions may use together; None for all of the machine's.
        memory_mib: memory that sessions may use together; None for three quarters of the machine's.
        evaluator_workers: processes that evaluate encrypted queries at once; None for one for each core, 0 if none are answered.
        evaluator_memory_mib: memory of each of them; None for an equal part of half of the machine's.
        key_cache_mib: memory for uploaded evaluation keys and queries; one researcher's may take half of it.
        max_key_mib: larger evaluation keys or queries are refused.
        assessor: `researcher.yaml` of the researcher in whose name the party repeats assessments by itself; None for nobody.
        metrics: `host:port` of the private listener for Prometheus, on a loopback or private address; None for no listener.
        log_level: how much is logged; no level logs values.
    """

    api_version: Literal["confide.party/1"]
    party: MemberId
    listen: Endpoint
    state: Annotated[Path, Field(strict=False)]
    policy: Annotated[Path, Field(strict=False)] = Path("policy.yaml")
    min_evaluation_rows: Annotated[int, Field(ge=LEAST_EVALUATION_ROWS, le=MAX_ROWS)] = 20
    max_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 1_000_000
    max_query_rows: Annotated[int, Field(ge=1, le=MAX_QUERY_ROWS)] = 1_000
    max_servings_per_model: Annotated[int, Field(ge=0, le=16)] = 1
    min_cell: Annotated[int, Field(ge=LEAST_CELL, le=MAX_ROWS)] = 5
    cores: Annotated[int, Field(ge=1, le=4_096)] | None = None
    memory_mib: Annotated[int, Field(ge=512, le=64 << 20)] | None = None
    evaluator_workers: Annotated[int, Field(ge=0, le=256)] | None = None
    evaluator_memory_mib: Annotated[int, Field(ge=256, le=1 << 20)] | None = None
    key_cache_mib: Annotated[int, Field(ge=16, le=1 << 20)] = 1_024
    max_key_mib: Annotated[int, Field(ge=1, le=512)] = 256
    assessor: Annotated[Path, Field(strict=False)] | None = None
    metrics: PrivateEndpoint | None = None
    log_level: LogLevel = "info"

    @property
    def folder(self) -> StateFolder:
        """The state folder."""
        return StateFolder(self.state)


class ResearcherConfig(_Strict):
    """What a researcher's program needs; paths are absolute once loaded.

    Attributes:
        api_version: format of the file.
        researcher: her id.
        state: the folder with keys, certificate and directory; relative paths count from the file.
    """

    api_version: Literal["confide.researcher/1"]
    researcher: MemberId
    state: Annotated[Path, Field(strict=False)]

    @property
    def folder(self) -> MemberFolder:
        """The folder with keys, certificate and directory."""
        return MemberFolder(self.state)


C = TypeVar("C", PartyConfig, ResearcherConfig)


def load_party_config(path: Path) -> PartyConfig:
    """Reads `party.yaml`.

    Raises:
        ConfideError: INVALID_CONFIG (the operator's fault) with every problem's file, line and field; INVALID_ARGUMENT if
            the file cannot be read.
    """
    return _load(path, PartyConfig)


def load_researcher_config(path: Path) -> ResearcherConfig:
    """Reads `researcher.yaml`.

    Raises:
        ConfideError: INVALID_CONFIG (the operator's fault) with every problem's file, line and field; INVALID_ARGUMENT if
            the file cannot be read.
    """
    return _load(path, ResearcherConfig)


def write_party_config(path: Path, *, party: str, listen: str) -> PartyConfig:
    """Writes a new `party.yaml` with the state folder beside it, and returns it as loaded.

    Raises:
        ConfideError: INVALID_CONFIG: an id or address that is not valid.
    """
    lines = [
        f"api_version: {PARTY_FORMAT}",
        f"party: {json.dumps(party)}",
        "# The one public port. The others reach it at the endpoint in the directory, which may be another address.",
        f"listen: {json.dumps(listen)}",
        "# Keys, certificate, directory, database and sealed files. Relative paths count from this file.",
        "state: state",
        "# An evaluation over fewer rows is refused.",
        "min_evaluation_rows: 20",
        "log_level: info",
    ]
    write_public(path, ("\n".join(lines) + "\n").encode())
    return load_party_config(path)


def write_researcher_config(path: Path, *, researcher: str) -> ResearcherConfig:
    """Writes a new `researcher.yaml` with the state folder beside it, and returns it as loaded.

    Raises:
        ConfideError: INVALID_CONFIG: an id that is not valid.
    """
    lines = [
        f"api_version: {RESEARCHER_FORMAT}",
        f"researcher: {json.dumps(researcher)}",
        "# Keys, certificate and directory. Relative paths count from this file.",
        "state: state",
    ]
    write_public(path, ("\n".join(lines) + "\n").encode())
    return load_researcher_config(path)


def _load(path: Path, kind: type[C]) -> C:
    file = read_yaml(path)
    try:
        config = kind.model_validate(dict(file.content))
    except ValidationError as error:
        problems = [_problem(file, item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
        raise ConfideError(ErrorCode.INVALID_CONFIG, f"{len(problems)} problem(s) in {path}", problems=problems) from error
    paths = {name: (path.parent / value).absolute() for name, value in config if isinstance(value, Path)}
    return config.model_copy(update=paths)


def _problem(file: YamlFile, field: tuple[str | int, ...], kind: str, message: str) -> Problem:
    if kind == "extra_forbidden":
        return file.problem(field, "unknown field", "remove it or correct its name")
    if kind == "missing":
        return file.problem(field, "missing field", "add it")
    return file.problem(field, message.removeprefix("Value error, "), "correct it")
